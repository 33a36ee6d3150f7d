"""VMs that boot from flash: a firmware in the first, kernel and initrd in the second (a CBFS)."""

import os
from collections.abc import Iterator
from contextlib import suppress

from ..errors import BadRequest, NotFound
from ..guest.kernel import INSTALLED, GuestImage, cache_directory
from . import cbfs, elf

FIRMWARE = "firmware.rom"
# QEMU's machine `pc` maps no more than this below 4 GiB, both together (hw/i386/pc_sysfw.c).
MAX_BYTES = 16 << 20
_SECTOR = 4096
# Of a firmware that is no flash (hw/i386/x86.c).
_BIOS_UNIT = 64 << 10


def image(bios: str | None, path: str) -> GuestImage:
    """What a VM boots from with the CBFS at `path`; `bios` of None is the project's firmware.

    Raises NotFound, BadRequest.
    """
    firmware = os.path.realpath(bios or _firmware())
    path = os.path.realpath(path)
    total = _size("bios", firmware, _SECTOR) + _size("cbfs", path, _SECTOR)
    if total > MAX_BYTES:
        raise BadRequest(
            f"cbfs {path}: with the firmware it has {total} bytes, and a VM's flash"
            f" {MAX_BYTES} at most: use a smaller kernel or initrd"
        )
    try:
        cbfs.read(path)
    except OSError as error:
        raise BadRequest(f"cbfs {path}: {(error.strerror or '').lower()}") from None
    return GuestImage(path, path, "flash", firmware, path)


def with_bios(image: GuestImage, bios: str) -> GuestImage:
    """The same kernel and initrd, started by another firmware. Raises NotFound, BadRequest."""
    path = os.path.realpath(bios)
    _size("bios", path, _BIOS_UNIT)
    return image._replace(bios=path)


def stale(path: str, configured: GuestImage) -> str:
    """A warning when the CBFS holds other files than those configured, else "".

    `path` has been found sound. Raises OSError.
    """
    files = cbfs.read(path)
    for what, name, file, forms in (
        ("kernel", cbfs.KERNEL, configured.kernel, kernel_forms(configured.kernel)),
        ("initrd", cbfs.INITRD, configured.initrd, [_content(configured.initrd)]),
    ):
        if not any(cbfs.holds(path, files[name], form) for form in forms):
            return (
                f"cbfs {path} holds another {what} than {file}, and VMs boot what it holds:"
                " `make cbfs` makes it anew"
            )
    return ""


def kernel_forms(kernel: str) -> Iterator[bytes]:
    """What a CBFS may hold of a kernel, what boots soonest first. Raises OSError."""
    content = _content(kernel)
    if elf.is_elf(content):
        with suppress(ValueError):
            yield elf.compact(content)
    yield content
    for path in packed(kernel):
        yield _content(path)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def packed(kernel: str) -> list[str]:
    """The packed form of an uncompressed kernel, if its build left one beside it."""
    path = os.path.join(os.path.dirname(kernel), "bzImage")
    return [path] if os.path.basename(kernel) == "vmlinux" and os.path.exists(path) else []


def _firmware() -> str:
    for directory in (cache_directory(), INSTALLED):
        path = os.path.join(directory, FIRMWARE)
        if os.path.exists(path):
            return path
    raise NotFound("no firmware to boot a cbfs found: run `make cbfs`, or set Bios")


def _size(what: str, path: str, unit: int) -> int:
    """The size of a file that is to be flash. Raises NotFound, BadRequest."""
    if not os.path.isfile(path):
        raise NotFound(f"{what} {path} not found: check the path")
    size = os.path.getsize(path)
    if size % unit or not 0 < size <= MAX_BYTES:
        raise BadRequest(
            f"{what} {path}: {size} bytes are no size of a flash: up to"
            f" {MAX_BYTES >> 20} MiB, a multiple of {unit}"
        )
    return size
