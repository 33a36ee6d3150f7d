"""`runv-containerd`: a later release brings it."""

import sys

from .. import __version__


def main() -> int:
    """Say that it is not there yet."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        sys.stdout.write(f"runv-containerd version {__version__}\n")
        return 0
    sys.stderr.write("runv-containerd: not supported yet: use hyperd, or runv with an engine\n")
    return 1
