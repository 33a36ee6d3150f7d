"""Makes `hyper.iso`: a CD that boots hyperkernel and hyperstart by a PC's BIOS.

`python -m hyperkernel.iso` takes hyperkernel's bzImage and the initrd, and writes CACHE/hyper.iso;
--kernel and --initrd name others. The boot loader is isolinux. hyperstart's channels are two serial
ports, for machines without virtio-serial (docs/iso.md). The same inputs give the same bytes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hypercontainer.errors import BadRequest, HyperError, NotFound
from hypercontainer.guest.kernel import GuestImage, cache_directory, find
from hypercontainer.hypervisor.flash import packed

_TOOL = "xorriso"
_LOADER = Path("/usr/lib/ISOLINUX/isolinux.bin")
_LIBRARY = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
_BOUND = 120.0
_HEADER_END = 0x206
_UARTS = re.compile(r"^CONFIG_SERIAL_8250_NR_UARTS=(\d+)$", re.MULTILINE)
CONTROL, STREAMS, CONSOLE = "ttyS0", "ttyS1", "ttyS2"
# The machine may be any PC, so of what a VM of QEMU is told nothing is said of clocks and tables.
ARGUMENTS = (
    f"console={CONSOLE} loglevel=4 panic=-1 hyper.ports={CONTROL},{STREAMS}"
    " 8250.nr_uarts=4 scsi_mod.scan=manual random.trust_cpu=on psi=1 dummy.numdummies=0"
)


def make(output: Path, kernel: Path, initrd: Path, arguments: str = ARGUMENTS) -> None:
    """Write the image. Raises HyperError, OSError."""
    for path in (_LOADER, _LIBRARY):
        if not path.exists():
            raise NotFound(f"{path} not found: run tools/setup iso")
    with kernel.open("rb") as file:
        # "The Real-Mode Kernel Header" of Linux' Documentation/x86/boot.rst.
        if file.read(_HEADER_END)[-4:] != b"HdrS":
            raise BadRequest(f"{kernel} is no bzImage, which isolinux needs: give one by --kernel")
    with tempfile.TemporaryDirectory(prefix=".iso.", dir=output.parent) as work:
        tree, image = Path(work, "tree"), Path(work, "image")
        (tree / "isolinux").mkdir(parents=True)
        (tree / "boot").mkdir()
        shutil.copyfile(_LOADER, tree / "isolinux/isolinux.bin")
        shutil.copyfile(_LIBRARY, tree / "isolinux/ldlinux.c32")
        shutil.copyfile(kernel, tree / "boot/vmlinuz")
        shutil.copyfile(initrd, tree / "boot/initrd.img")
        (tree / "isolinux/isolinux.cfg").write_text(_configuration(arguments))
        for path in (tree, *tree.rglob("*")):
            os.utime(path, (0, 0))
        _write(tree, image)
        if not output.exists() or output.read_bytes() != image.read_bytes():
            image.chmod(0o644)
            image.replace(output)


def kernel_of(image: GuestImage) -> Path:
    """The packed kernel of an image. Raises BadRequest when it has too few serial ports."""
    path = Path([image.kernel, *packed(image.kernel)][-1])
    config = path.with_name("config")
    match = _UARTS.search(config.read_text()) if config.exists() else None
    if match and int(match[1]) < 2:
        raise BadRequest(f"{path} knows of one serial port, and the CD's guest needs two")
    return path


def _configuration(arguments: str) -> str:
    return (
        "DEFAULT hyper\nPROMPT 0\nLABEL hyper\n"
        f"  KERNEL /boot/vmlinuz\n  INITRD /boot/initrd.img\n  APPEND {arguments}\n"
    )


def _write(tree: Path, image: Path) -> None:
    """By El Torito without emulation; isolinux is told its place (-boot-info-table)."""
    boot = ("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot")
    table = ("-boot-load-size", "4", "-boot-info-table")
    argv = (_TOOL, "-as", "mkisofs", "-quiet", "-V", "HYPER", "-J", "-r", *boot, *table)
    try:
        done = subprocess.run(
            [*argv, "-o", str(image), str(tree)],
            capture_output=True,
            text=True,
            timeout=_BOUND,
            check=False,
            env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
        )
    except FileNotFoundError:
        raise NotFound(f"{_TOOL} not found: run tools/setup iso") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise HyperError(f"{_TOOL}: {lines[-1] if lines else 'failed'}")


def main() -> int:
    """Write the image."""
    parser = argparse.ArgumentParser(description="make the CD that boots hyperstart")
    parser.add_argument("--kernel", help="a bzImage with serial ports and virtio-scsi")
    parser.add_argument("--initrd", help="its initrd")
    parser.add_argument("--append", default=ARGUMENTS, help="the kernel's command line")
    parser.add_argument(
        "output", type=Path, nargs="?", default=Path(cache_directory(), "hyper.iso")
    )
    arguments = parser.parse_args()
    output: Path = arguments.output
    try:
        image = find(arguments.kernel, arguments.initrd)
        kernel = kernel_of(image)
        make(output, kernel, Path(image.initrd), arguments.append)
    except (HyperError, OSError) as error:
        print(f"iso: {error}", file=sys.stderr)
        return 1
    print(f"iso: {output} ({output.stat().st_size / 1e6:.1f} MB, kernel {kernel.name})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
