"""Handing files to a program that opens by name: its opens of them get our descriptors.

A seccomp filter (seccomp_unotify(2)) stops the program in openat(2) where the flags have O_SYNC,
which little asks for; whoever has the listener answers with a descriptor or an error. So a program
without any rights gets files that it could not open, and no others. Linux 5.14.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import struct
from typing import NamedTuple

from . import syscalls

# asm/unistd.h and linux/audit.h: the numbers of openat, kill and seccomp, and the architecture's.
_NUMBERS = {"x86_64": (257, 62, 317, 0xC000003E), "aarch64": (56, 129, 277, 0xC00000B7)}
_OPENAT, _KILL, _SECCOMP, _ARCHITECTURE = _NUMBERS[platform.machine()]
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_NOTIFY, _ERRNO, _ALLOW, _END = 0x7FC00000, 0x00050000, 0x7FFF0000, 0x80000000
# Classic BPF (linux/bpf_common.h), and where struct seccomp_data has what.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _SIGNAL_AT, _FLAGS_AT = 0, 4, 24, 32
_X32_BIT = 0x40000000
# O_SYNC is this bit and that of O_DSYNC.
_SYNC_BIT = os.O_SYNC & ~os.O_DSYNC
# linux/seccomp.h: struct seccomp_notif with its data, _resp and _addfd, and their ioctls.
_QUESTION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_GIVE = struct.Struct("=QIIII")
_RECEIVE, _SEND, _STILL, _ADD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_ADD_AND_ANSWER, _ADD_AS = 2, 1
_PATH = 256


class Open(NamedTuple):
    """A program's call of openat that waits: the kernel's number of the question, and the path."""

    question: int
    path: str


def _program(refused: tuple[int, ...]) -> bytes:
    """The filter; calls of numbers in `refused` fail with EPERM, an abort(3) ends the process."""
    body = [(_LOAD, 0, 0, _NUMBER_AT)]
    for left, number in enumerate(reversed(refused)):
        body.insert(1, (_JUMP_EQUAL, left + 4, 0, number))
    # x32's calls are others of the same architecture.
    body.insert(1, (_JUMP_AT_LEAST, len(refused) + 4, 0, _X32_BIT))
    body += [
        (_JUMP_EQUAL, 0, 2, _OPENAT),
        (_LOAD, 0, 0, _FLAGS_AT),
        (_JUMP_ANY_BIT, 2, 0, _SYNC_BIT),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    whole = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_EQUAL, 1, 0, _ARCHITECTURE)]
    whole += [
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_EQUAL, 0, 3, _KILL),
        (_LOAD, 0, 0, _SIGNAL_AT),
        (_JUMP_EQUAL, 0, 1, signal.SIGABRT),
        (_RETURN, 0, 0, _END),
        *body,
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in whole)


def install(refused: tuple[int, ...] = ()) -> int:
    """Filter this thread and what it starts, after `no_new_privileges`; returns the listener.

    Calls with the numbers `refused` fail with EPERM from now on. To send SIGABRT ends the sender,
    also the first process of a namespace, which its own signals can't end. Raises OSError.
    """
    program = _program(refused)
    code = ctypes.create_string_buffer(program, len(program))

    class _Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    pointer = _Filter(len(program) // 8, ctypes.addressof(code))
    return syscalls.call(
        "seccomp", _SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(pointer)
    )


def receive(listener: int) -> Open | None:
    """The next call, once the listener is readable; None when it is over already.

    Raises OSError, which is EOFError's like (EPIPE) when nobody is left who could open.
    """
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    if not any(events & select.POLLIN for _, events in poller.poll(0)):
        raise BrokenPipeError(errno.EPIPE, "no process has the filter")
    buffer = bytearray(_QUESTION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
        question, pid, *_, path_at, _, _, _, _ = _QUESTION.unpack(buffer)
        path = _text(pid, path_at)
        # Else the process may be another by now.
        fcntl.ioctl(listener, _STILL, struct.pack("=Q", question))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR, errno.ESRCH):
            return None
        raise
    return Open(question, path)


def _text(pid: int, address: int) -> str:
    """The text at an address of a process, "" where there is none."""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.pread(memory, _PATH, address).partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(memory)


def give(listener: int, asked: Open, fd: int) -> None:
    """Let the call return a copy of a descriptor. One that is over is fine; raises OSError."""
    _answer(listener, _ADD, _GIVE.pack(asked.question, _ADD_AND_ANSWER, fd, 0, 0))


def give_as(listener: int, asked: Open, fd: int, number: int) -> None:
    """Give the program that waits a copy of a descriptor as that number. Raises OSError."""
    _answer(listener, _ADD, _GIVE.pack(asked.question, _ADD_AS, fd, number, 0))


def refuse(listener: int, asked: Open, number: int) -> None:
    """Let the call fail with an errno. One that is over is fine; raises OSError."""
    _answer(listener, _SEND, _ANSWER.pack(asked.question, 0, -number, 0))


def _answer(listener: int, request: int, message: bytes) -> None:
    try:
        fcntl.ioctl(listener, request, message)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
