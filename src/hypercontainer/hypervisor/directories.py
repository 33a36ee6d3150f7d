"""Where VMs' files of all users of this host are."""

import os

# Templates, and the sockets of what keeps VMs ready; root-only.
TEMPLATES = os.environ.get("HYPER_TEMPLATES", "/run/hyper/templates")
