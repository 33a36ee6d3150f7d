"""Where things are that several programs of ours use."""

import os

# Templates, and the sockets of what keeps VMs ready; root-only.
TEMPLATES = os.environ.get("HYPER_TEMPLATES", "/run/hyper/templates")
