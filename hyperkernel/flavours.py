"""The kernels that build.py makes: for which machine, of which options, with what as the result."""

from pathlib import Path
from typing import NamedTuple

FRAGMENTS = Path(__file__).parent


class Flavour(NamedTuple):
    """A kernel: the options of its fragments, each set on top of those before, all others off."""

    name: str
    """What `build.py --flavour` calls it; the kernel for QEMU on x86-64 has none."""
    fragments: tuple[str, ...]
    """File names in this directory."""
    arch: str = "x86_64"
    """Linux's name of the architecture, for `make ARCH=`."""
    cross: str = ""
    """What the names of the compiler and binutils begin with, for `make CROSS_COMPILE=`."""
    image: str = "arch/x86/boot/bzImage"
    """The file in the built tree for boot loaders; its name is also that of the make target."""
    settings: tuple[str, ...] = ()
    """More arguments of make."""
    fast: str = ""
    """The file in this directory that lists the objects to be compiled for speed, not for size."""
    entered_by_pvh: bool = True
    """Whether its vmlinux must have the note that says where PVH enters it."""

    @property
    def link(self) -> str:
        """The name of the link in the cache to the current kernel of this flavour."""
        return f"hyperkernel-{self.name}" if self.name else "hyperkernel"

    @property
    def results(self) -> tuple[str, ...]:
        """The names of the files that a build leaves."""
        return ("vmlinux", Path(self.image).name, "config")

    def fragment(self) -> str:
        """The options to build with, as text."""
        return "\n".join((FRAGMENTS / name).read_text() for name in self.fragments)

    def fast_objects(self) -> list[str]:
        """The objects to be compiled for speed, as paths in the tree."""
        lines = (FRAGMENTS / self.fast).read_text().splitlines() if self.fast else []
        return [line for line in lines if line and not line.startswith("#")]


# For size, gcc writes and copies memory byte by byte (`rep stosb`), and an emulated CPU does each
# byte as a piece of code of its own. The kernel's functions do it by words of 8 bytes, unless the
# CPU has ERMS, as that of a plain QEMU has. Where the pages of the kernel's start are overwritten,
# at the end of a boot, that costs 0.1 s: each write to a page with code is an event of its own.
_X86_SETTINGS = (
    "KCFLAGS=-mstringop-strategy=libcall",
    "CFLAGS_page_alloc.o=-O2 -mstringop-strategy=rep_8byte",
)
QEMU = Flavour("", ("x86_64.config",), settings=_X86_SETTINGS, fast="x86_64.fast")
ARM64 = Flavour(
    "arm64",
    ("aarch64.config",),
    arch="arm64",
    cross="aarch64-linux-gnu-",
    image="arch/arm64/boot/Image",
    entered_by_pvh=False,
)
XEN = QEMU._replace(name="xen", fragments=("x86_64.config", "xen.config"))
FLAVOURS = {flavour.name: flavour for flavour in (QEMU, XEN, ARM64)}
