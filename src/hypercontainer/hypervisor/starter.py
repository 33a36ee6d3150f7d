"""A program that starts a kernel with a table of CPUs of ours (see `mptable`).

The firmware starts it as it would the kernel, by PVH (Xen's docs/misc/pvh.pandoc: 32 bits, no
pages, EBX with what the kernel is to know). It puts the table's pointer where Linux searches
first, in the first KiB of memory, and jumps into the kernel, which the hypervisor has loaded too.
Only a program can: the firmware itself writes to that KiB, and a table of the CPUs that are there
to the other place which comes before those that it leaves alone.
"""

import os
import struct

from ..errors import VMError
from ..system import memfd
from . import elf, mptable
from .machine import Machine

# Of memory that neither the firmware nor the kernel, from 16 MiB on, uses.
_AT = 1 << 20
_POINTER_AT = 0x100
_ALIGNMENT = 16
_DWORDS = mptable.POINTER_SIZE // 4


def new(machine: Machine) -> int:
    """A descriptor of the program for a machine that can get CPUs, which nobody can change.

    Raises VMError.
    """
    entry = elf.pvh_entry(machine.kernel)
    if entry is None:
        raise VMError(f"{machine.kernel} is no longer a kernel that is entered by PVH")
    return _file_of(program(machine.most_cpus, entry))


def _file_of(content: bytes) -> int:
    try:
        fd = memfd.new("hyper-starter", len(content))
    except OSError:
        return _file_on_disk(content)
    os.pwrite(fd, content, 0)
    memfd.seal(fd)
    return fd


def _file_on_disk(content: bytes) -> int:
    """Where memfds are refused, as in some containers."""
    import tempfile

    try:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o444)
            return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VMError(f"the program that starts the kernel can't be kept: {error}") from None


def program(cpus: int, kernel_entry: int) -> bytes:
    """An ELF file that starts a kernel, entered by PVH, for up to `cpus` CPUs."""
    table = mptable.table(cpus)
    pointer_at = _aligned(_AT + len(table))
    code_at = pointer_at + mptable.POINTER_SIZE
    code = (
        b"\xfc"  # cld
        + b"\xbe%b" % _32(pointer_at)  # mov esi
        + b"\xbf%b" % _32(_POINTER_AT)  # mov edi
        + b"\xb9%b" % _32(_DWORDS)  # mov ecx
        + b"\xf3\xa5"  # rep movsd
        + b"\xb8%b" % _32(kernel_entry)  # mov eax
        + b"\xff\xe0"  # jmp eax
    )
    content = table.ljust(pointer_at - _AT, b"\0") + mptable.pointer(_AT) + code
    return elf.pvh_program(_AT, content, code_at)


def _aligned(at: int) -> int:
    return -(-at // _ALIGNMENT) * _ALIGNMENT


def _32(value: int) -> bytes:
    return struct.pack("<I", value)
