"""`runv features`: what is supported, in the form of runc 1.1's (runtime-spec features.md)."""

import json
import sys

from .. import __version__
from ..guest.mounts import NAMES
from ..guest.seccomp import ACTIONS, ARCHITECTURES, OPERATORS
from ..guest.spec import CAPABILITIES
from . import hooks


def features() -> int:
    """Print them."""
    sys.stdout.write(document() + "\n")
    return 0


def document() -> str:
    """They, as JSON."""
    found = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.1.0",
        "hooks": list(hooks.KINDS),
        "mountOptions": NAMES,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"],
            "capabilities": [f"CAP_{name}" for name in CAPABILITIES],
            "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": False},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
        },
        "annotations": {"org.hypercontainer.runv.version": __version__},
    }
    return json.dumps(found, indent=4)
