"""Makes the initrd for User Mode Linux: hyperstart, and modules of Debian's package of it.

The package's kernel is a program, which is run where it is installed; its modules are below
/usr/lib/uml/modules.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from hyperkernel.distribution import FetchError, copy_modules
from hyperkernel.initrd import initrd, write

BASE = Path("/usr/lib/uml/modules")
# What hyperstart and containers need and this kernel has as modules.
MODULES = ("squashfs", "erofs", "overlay", "loop", "binfmt_misc", "ipv6", "dummy")


def modules_of() -> Path:
    """The directory of the installed kernel's modules. Raises FetchError."""
    found = sorted(BASE.glob("*/modules.dep"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FetchError(f"no modules below {BASE}: apt-get install user-mode-linux")
    return found[-1].parent


def main() -> int:
    """Write the initrd, unless it is there already."""
    parser = argparse.ArgumentParser(description="build the initrd for User Mode Linux")
    parser.add_argument("--init", type=Path, required=True, help="the hyperstart binary")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="hyper-uml-") as work:
            copy_modules(modules_of(), MODULES, Path(work))
            write(arguments.output, initrd(arguments.init, sorted(Path(work).iterdir())))
    except (FetchError, OSError) as error:
        print(f"initrd for User Mode Linux: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
