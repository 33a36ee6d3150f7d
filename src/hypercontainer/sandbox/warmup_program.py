"""The program of a warm-up: what programs ask of a kernel when they start, and little else.

A static ELF program (elf(5), x86-64) that is a table of system calls and a loop over it. It has a
segment that it only reads and one that it writes, as those that compilers make; it grows its heap,
maps a file, protects memory, opens and reads, forks, and ends.
"""

import struct
from typing import NamedTuple

_TEXT, _DATA = 0x400000, 0x600000
_HEADERS = 64 + 2 * 56
_PAGE = 0x1000
_FILE_PAGES = 8
_TEXT_SIZE = (_FILE_PAGES - 2) * _PAGE
_BSS = 0x4000
# Registers: rbx the call at hand, r15 the result of the last.
_LOOP = bytes.fromhex(
    "488d1d00000000"  # lea rbx, [rip + table]
    "488b03"  # mov rax, [rbx]
    "488b7b08"  # mov rdi, [rbx + 8]
    "488b7310"  # mov rsi, [rbx + 16]
    "488b5318"  # mov rdx, [rbx + 24]
    "4c8b5320"  # mov r10, [rbx + 32]
    "4c8b4328"  # mov r8, [rbx + 40]
    "4c8b4b30"  # mov r9, [rbx + 48]
    "488b4b48"  # mov rcx, [rbx + 72]
    "490fafcf"  # imul rcx, r15
    "4801cf"  # add rdi, rcx
    "0f05"  # syscall
    "4989c7"  # mov r15, rax
    "488b4b38"  # mov rcx, [rbx + 56]
    "8a01"  # mov al, [rcx]
    "488b4b40"  # mov rcx, [rbx + 64]
    "8801"  # mov [rcx], al
    "4883c350"  # add rbx, 80
)
_TO_LOOP = 7
# Strings, at the begin of the segment that is written.
_PATH, _ABSENT, _EMPTY, _LINE = (_DATA + at for at in (0, 32, 48, 64))
_STRINGS = {_PATH: b"/proc/self/exe", _ABSENT: b"/etc/preload", _LINE: b"\n"}
_BUFFER = _DATA + 0x100
_ZEROED = _DATA + 2 * _PAGE
_MAPPED = 0x10000000


class Call(NamedTuple):
    """A system call by its number; `reads` and `writes` are touched after it.

    With `after`, the result of the call before is added to the first argument.
    """

    number: int
    arguments: tuple[int, ...] = ()
    reads: int = _TEXT
    writes: int = _BUFFER
    after: bool = False

    def packed(self) -> bytes:
        """As in the table."""
        arguments = (*self.arguments, *(0,) * (6 - len(self.arguments)))
        return struct.pack("<Q6qQQQ", self.number, *arguments, self.reads, self.writes, self.after)


_AT_FDCWD = -100
_CALLS = (
    Call(12, (0,)),  # brk: where the heap is
    Call(12, (0x21000,), after=True),
    Call(318, (-0x1000, 64, 0), after=True),  # getrandom, to the heap
    Call(158, (0x1002, _BUFFER)),  # arch_prctl: FS
    Call(218, (_BUFFER,)),  # set_tid_address
    Call(273, (_BUFFER, 24)),  # set_robust_list
    Call(334, (_DATA + 0x800, 32, 0, 0x53053053)),  # rseq
    Call(302, (0, 3, 0, _BUFFER)),  # prlimit64: the stack's
    Call(89, (_PATH, _BUFFER, 64)),  # readlink
    Call(63, (_BUFFER,), writes=_ZEROED),  # uname; the first of the zeroed pages
    Call(10, (_DATA + _PAGE, _PAGE, 1)),  # mprotect, there and back: a split of what is mapped
    Call(10, (_DATA + _PAGE, _PAGE, 3)),
    Call(21, (_ABSENT, 4)),  # access
    Call(257, (_AT_FDCWD, _PATH, 0x80000)),  # openat: the program itself
    Call(262, (3, _EMPTY, _BUFFER, 0x1000), reads=_TEXT + 5 * _PAGE),  # newfstatat
    Call(0, (3, _BUFFER, 832), writes=_DATA + _PAGE),  # read
    Call(17, (3, _BUFFER, 784, 64)),  # pread64
    Call(9, (_MAPPED, 4 * _PAGE, 1, 0x12, 3, 0), reads=_MAPPED + _PAGE),  # mmap, fixed, private
    Call(9, (_MAPPED + _PAGE, _PAGE, 3, 0x12, 3, _PAGE), writes=_MAPPED + _PAGE),
    Call(9, (_MAPPED + 4 * _PAGE, _PAGE, 3, 0x32, -1, 0), writes=_MAPPED + 4 * _PAGE),
    Call(10, (_MAPPED + _PAGE, _PAGE, 1)),  # mprotect
    Call(11, (_MAPPED, 5 * _PAGE)),  # munmap
    Call(3, (3,)),  # close
    Call(13, (17, 0, _BUFFER, 8)),  # rt_sigaction
    Call(14, (0, 0, _BUFFER, 8)),  # rt_sigprocmask
    Call(16, (1, 0x5401, _BUFFER)),  # ioctl: is it a terminal?
    Call(102),  # getuid
    Call(39),  # getpid
    Call(1, (1, _LINE, 1)),  # write
    Call(56, (17,)),  # clone: parent and child go on
    Call(61, (-1, 0, 0, 0)),  # wait4, where there is a child
    Call(231, (0,)),  # exit_group
)


def program() -> bytes:
    """The program's file."""
    table = b"".join(call.packed() for call in _CALLS)
    code = bytearray(_LOOP)
    back = _TO_LOOP - (len(code) + 2)
    code += struct.pack("<Bb", 0xEB, back)
    struct.pack_into("<i", code, 3, len(code) - _TO_LOOP)
    text = _headers() + code + table
    image = bytearray(text.ljust(_FILE_PAGES * _PAGE, b"\0"))
    for address, string in _STRINGS.items():
        start = _TEXT_SIZE + address - _DATA
        image[start : start + len(string)] = string
    return bytes(image)


def _headers() -> bytes:
    size, data_size = _TEXT_SIZE, 2 * _PAGE
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(2, 62, 1, _TEXT + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0),
    )
    load = "<IIQQQQQQ"
    return (
        header
        + struct.pack(load, 1, 5, 0, _TEXT, _TEXT, size, size, _PAGE)
        + struct.pack(load, 1, 6, size, _DATA, _DATA, data_size, data_size + _BSS, _PAGE)
    )
