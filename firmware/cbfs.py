"""Makes `cbfs.rom`: kernel, initrd and command line in a flash, for VMs that boot from flash.

`python -m firmware.cbfs` takes hyperkernel's files and writes CACHE/cbfs.rom; --kernel and --initrd
name others. An uncompressed kernel starts sooner, but must fit; else the packed one is taken. The
same inputs give the same bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.guest.kernel import GuestImage, cache_directory, find
from hypercontainer.hypervisor import cbfs, elf
from hypercontainer.hypervisor.flash import FIRMWARE, MAX_BYTES, kernel_forms
from hypercontainer.hypervisor.qemu_start import flash_arguments

TOOL = "cbfstool"
_UNIT = 64 << 10
# Headers of the image and of its files, with their alignment.
_OVERHEAD = 8 << 10
_BOUND = 60.0


def make(output: Path, kernel: bytes, initrd: Path, command_line: str) -> None:
    """Write a CBFS of these. Raises HyperError, OSError."""
    content = len(kernel) + initrd.stat().st_size + len(command_line)
    size = -(-(content + _OVERHEAD) // _UNIT) * _UNIT
    with tempfile.TemporaryDirectory(prefix=".cbfs.", dir=output.parent) as work:
        rom, text, linux = (Path(work, name) for name in ("rom", "cmdline", "kernel"))
        text.write_text(command_line)
        linux.write_bytes(kernel)
        _run(str(rom), "create", "-m", "x86", "-s", str(size))
        for path, name in ((linux, cbfs.KERNEL), (initrd, cbfs.INITRD), (text, cbfs.COMMAND_LINE)):
            _run(str(rom), "add", "-f", str(path), "-n", name, "-t", "raw")
        cbfs.read(str(rom))
        if not output.exists() or output.read_bytes() != rom.read_bytes():
            rom.chmod(0o644)
            rom.replace(output)


def choose_kernel(image: GuestImage, firmware_size: int) -> bytes:
    """The kernel itself when it fits beside its initrd and the firmware, else the packed one.

    Raises OSError.
    """
    room = MAX_BYTES - firmware_size - _UNIT - os.path.getsize(image.initrd)
    forms = list(kernel_forms(image.kernel))
    return next((form for form in forms if len(form) <= room), forms[0])


def _run(*arguments: str) -> None:
    try:
        done = subprocess.run(
            [TOOL, *arguments], capture_output=True, text=True, timeout=_BOUND, check=False
        )
    except FileNotFoundError:
        raise NotFound(f"{TOOL} not found: run tools/setup firmware") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise HyperError(f"{TOOL} {arguments[1]}: {said[-1] if said else 'failed'}")


def main() -> int:
    """Write the CBFS."""
    cache = Path(cache_directory())
    parser = argparse.ArgumentParser(description="make the flash that VMs boot from")
    parser.add_argument("--kernel", help="a vmlinux with PVH entry, or a bzImage")
    parser.add_argument("--initrd", help="its initrd")
    parser.add_argument("output", type=Path, nargs="?", default=cache / "cbfs.rom")
    arguments = parser.parse_args()
    output: Path = arguments.output
    try:
        image = find(arguments.kernel, arguments.initrd)
        kernel = choose_kernel(image, os.path.getsize(cache / FIRMWARE))
        make(output, kernel, Path(image.initrd), flash_arguments() + "\n")
    except (HyperError, OSError) as error:
        print(f"cbfs: {error}", file=sys.stderr)
        return 1
    form = "uncompressed" if elf.is_elf(kernel) else "packed"
    print(f"cbfs: {output} ({output.stat().st_size / 1e6:.1f} MB, kernel {form})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
