"""hyperd: the daemon's start, its configuration and its REST API."""
