"""Which kernel and initrd a VM boots.

`make hyperkernel` and `make initrd` leave their results in the cache
directory (`/var/cache/hyper`, or `HYPER_CACHE`); see hyperkernel/README.md.
"""

import os
from typing import NamedTuple

from ..errors import NotFound
from .platforms import ARCHITECTURES, NATIVE

CACHE = "/var/cache/hyper"
# Where `make install` puts them.
INSTALLED = "/var/lib/hyper"
INITRD = "hyper-initrd.img"
# A flavour whose kernel is a program of Debian's.
UML = "uml"
UML_PACKAGE = "user-mode-linux"
UML_PROGRAM = "/usr/bin/linux.uml"


class GuestImage(NamedTuple):
    """The files that a VM boots from; `kind` is `custom`, `hyperkernel`, `distribution`, `flash`
    or the flavour.

    One of flash has kernel and initrd in the file `cbfs`, which all three name. `bios` is the
    firmware, "" for the usual one.
    """

    kernel: str
    initrd: str
    kind: str
    bios: str = ""
    cbfs: str = ""


def cache_directory() -> str:
    """Where built kernels and initrds are kept."""
    return os.environ.get("HYPER_CACHE", CACHE)


def _candidates(flavour: str) -> list[GuestImage]:
    cache = cache_directory()
    initrd = f"{cache}/{INITRD}"
    if flavour in ARCHITECTURES:
        kernels = (f"{cache}/hyperkernel-{flavour}/Image", f"{INSTALLED}/kernel-{flavour}")
        name = f"hyper-initrd-{flavour}.img"
        initrds = (f"{cache}/{name}", f"{INSTALLED}/{name}")
        return [GuestImage(*pair, flavour) for pair in zip(kernels, initrds, strict=True)]
    if flavour == UML:
        return [
            GuestImage(UML_PROGRAM, f"{place}/hyper-initrd-{UML}.img", UML)
            for place in (cache, INSTALLED)
        ]
    name, kind = (f"-{flavour}", flavour) if flavour else ("", "hyperkernel")
    return [
        GuestImage(f"{cache}/hyperkernel{name}/vmlinux", initrd, kind),
        GuestImage(f"{INSTALLED}/kernel{name}", f"{INSTALLED}/{INITRD}", kind),
        GuestImage(
            f"{cache}/distribution/vmlinuz", f"{cache}/distribution/initrd.img", "distribution"
        ),
    ]


def find(kernel: str | None = None, initrd: str | None = None, flavour: str = "") -> GuestImage:
    """The kernel and initrd to boot: those named, else hyperkernel, else the distribution's.

    A `flavour` is a hyperkernel for a hypervisor that needs another one, or for an architecture
    other than the host's, by its name. Raises NotFound, with what to do about it.
    """
    if flavour == NATIVE:
        flavour = ""
    if kernel is None and initrd is None:
        for image in _candidates(flavour):
            if os.path.exists(image.kernel) and os.path.exists(image.initrd):
                return image
        if flavour in ARCHITECTURES:
            about = ARCHITECTURES[flavour]
            raise NotFound(
                f"no guest kernel for {about.platform} found: run `make {about.kernel_target}`"
            )
        if flavour == UML and not os.path.exists(UML_PROGRAM):
            raise NotFound(
                f"{UML_PROGRAM} not found: install {UML_PACKAGE} (apt-get install {UML_PACKAGE}),"
                " then run `make uml`"
            )
        if flavour == UML:
            raise NotFound("no initrd for User Mode Linux found: run `make uml`")
        target = f"hyperkernel-{flavour}" if flavour else "hyperkernel"
        raise NotFound(
            f"no guest kernel found: run `make {target} initrd`, or set Kernel and Initrd"
            " in /etc/hyper/config"
        )
    kernels, initrds = zip(*((i.kernel, i.initrd) for i in _candidates(flavour)), strict=True)
    image = GuestImage(kernel or _first(kernels), initrd or _first(initrds), "custom")
    for what, path in (("kernel", image.kernel), ("initrd", image.initrd)):
        if not os.path.isfile(path):
            raise NotFound(f"guest {what} {path or '(none)'} not found: check the path")
    return image


def _first(paths: tuple[str, ...]) -> str:
    return next((path for path in paths if os.path.exists(path)), "")
