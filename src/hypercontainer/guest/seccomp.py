"""linux.seccomp of an OCI configuration (runtime-spec 1.1, config-linux.md "Seccomp") as BPF.

libseccomp, which every Debian has, compiles the filter for the guest's
architecture (seccomp_arch_add(3)); the guest only loads it.
"""

import base64
import ctypes
import os
import struct
from typing import Any

from ..errors import BadRequest, NotSupported
from .platforms import NATIVE

_ACT_KILL_PROCESS = 0x80000000
_ACT_KILL_THREAD = 0x00000000
_ACT_TRAP = 0x00030000
_ACT_ERRNO = 0x00050000
_ACT_TRACE = 0x7FF00000
_ACT_LOG = 0x7FFC0000
_ACT_ALLOW = 0x7FFF0000
_EPERM = 1

ACTIONS = {
    "SCMP_ACT_KILL": _ACT_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _ACT_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _ACT_KILL_PROCESS,
    "SCMP_ACT_TRAP": _ACT_TRAP,
    "SCMP_ACT_ERRNO": _ACT_ERRNO,
    "SCMP_ACT_TRACE": _ACT_TRACE,
    "SCMP_ACT_LOG": _ACT_LOG,
    "SCMP_ACT_ALLOW": _ACT_ALLOW,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
# Those of which programs run in a guest, its own first; others mean nothing there.
_OF_GUEST = {
    "amd64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "arm64": ("SCMP_ARCH_AARCH64",),
}
# x32's numbers are those of x86-64 with a bit more.
_NUMBERED_APART = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64")
_EEXIST = 17
_EDOM = 33
_ATTRIBUTE_NO_NEW_PRIVS = 3
_MAX_FILTER = 8 * 4096
_ENOSYS_RESULT = _ACT_ERRNO | 38

# Opcodes of classic BPF (linux/bpf_common.h) and offsets in struct seccomp_data.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32_BIT = 0x40000000


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise NotSupported(
            "linux.seccomp: libseccomp is missing: apt-get install libseccomp2"
        ) from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_arch_remove.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Compare),
    )
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def compile_filter(seccomp: dict[str, Any], architecture: str = NATIVE) -> tuple[str, int]:
    """The filter as base64 of its BPF instructions, and its seccomp(2) flags.

    `architecture` is the guest's. Raises BadRequest or NotSupported naming the key.
    """
    if seccomp.get("listenerPath"):
        raise NotSupported("linux.seccomp.listenerPath: a notify listener can't be in a VM's guest")
    library = _library()
    default = _action(seccomp, "defaultAction", "defaultErrnoRet", "linux.seccomp")
    context = library.seccomp_init(default)
    if not context:
        raise BadRequest("linux.seccomp.defaultAction: libseccomp refuses it")
    try:
        _prepare(library, context, seccomp, architecture)
        for index, rule in enumerate(seccomp.get("syscalls") or []):
            _add_rule(library, context, rule, default, f"linux.seccomp.syscalls[{index}]")
        program = _newer_calls(library, seccomp, default, architecture)
        program += _export(library, context)
        if len(program) > _MAX_FILTER:
            raise BadRequest("linux.seccomp: the filter has more than 4096 instructions")
        return base64.b64encode(program).decode(), _flags(seccomp)
    finally:
        library.seccomp_release(context)


def _action(source: dict[str, Any], key: str, errno_key: str, where: str) -> int:
    name = source.get(key)
    if name == "SCMP_ACT_NOTIFY":
        raise NotSupported(f"{where}.{key}: SCMP_ACT_NOTIFY needs a listener, which a VM lacks")
    if name not in ACTIONS:
        raise BadRequest(f"{where}.{key}: unknown action {name!r}")
    action = ACTIONS[name]
    if action in (_ACT_ERRNO, _ACT_TRACE):
        number = source.get(errno_key)
        action |= int(_EPERM if number is None else number) & 0xFFFF
    return action


def _flags(seccomp: dict[str, Any]) -> int:
    flags = 0
    for name in seccomp.get("flags") or []:
        if name not in _FLAGS:
            raise BadRequest(f"linux.seccomp.flags: unknown flag {name!r}")
        flags |= _FLAGS[name]
    return flags


def _prepare(
    library: ctypes.CDLL, context: int, seccomp: dict[str, Any], architecture: str
) -> None:
    library.seccomp_attr_set(context, _ATTRIBUTE_NO_NEW_PRIVS, 0)
    own = _OF_GUEST[architecture]
    if architecture != NATIVE:
        # A new filter is for the host's.
        library.seccomp_arch_add(context, ARCHITECTURES[own[0]])
        library.seccomp_arch_remove(context, ARCHITECTURES[_OF_GUEST[NATIVE][0]])
    for name in seccomp.get("architectures") or []:
        if not str(name).startswith("SCMP_ARCH_"):
            raise BadRequest(f"linux.seccomp.architectures: unknown architecture {name!r}")
        if name in own:
            result = library.seccomp_arch_add(context, ARCHITECTURES[name])
            if result not in (0, -_EEXIST):
                raise BadRequest(f"linux.seccomp.architectures: {name}: {os.strerror(-result)}")


def _add_rule(
    library: ctypes.CDLL, context: int, rule: dict[str, Any], default: int, where: str
) -> None:
    names = rule.get("names")
    if not isinstance(names, list) or not names:
        raise BadRequest(f"{where}.names: a list of system calls is needed")
    action = _action(rule, "action", "errnoRet", where)
    if action == default:
        return
    comparisons = [
        _comparison(a, f"{where}.args[{i}]") for i, a in enumerate(rule.get("args") or [])
    ]
    indexes = [c.arg for c in comparisons]
    # libseccomp takes an argument once a rule; several tests of one argument are alternatives.
    groups = [[c] for c in comparisons] if len(set(indexes)) != len(indexes) else [comparisons]
    for name in names:
        number = library.seccomp_syscall_resolve_name(str(name).encode())
        if number == -1:
            continue
        for group in groups:
            array = (_Compare * len(group))(*group)
            result = library.seccomp_rule_add_array(context, action, number, len(group), array)
            if result not in (0, -_EEXIST, -_EDOM):
                raise BadRequest(f"{where}: {name}: {os.strerror(-result)}")


def _comparison(argument: dict[str, Any], where: str) -> _Compare:
    operator = argument.get("op")
    if operator not in OPERATORS:
        raise BadRequest(f"{where}.op: unknown operator {operator!r}")
    index = argument.get("index")
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise BadRequest(f"{where}.index: {index!r} is not between 0 and 5")
    value, other = int(argument.get("value", 0)), int(argument.get("valueTwo", 0))
    # For SCMP_CMP_MASKED_EQ `value` is the mask, `valueTwo` what is compared with.
    return _Compare(index, OPERATORS[operator], value, other)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    read, write = os.pipe()
    try:
        # A filter has at most 4096 instructions of 8 bytes, which the pipe holds.
        result = library.seccomp_export_bpf(context, write)
        os.close(write)
        write = -1
        if result != 0:
            raise BadRequest(f"linux.seccomp: {os.strerror(-result)}")
        data = bytearray()
        while chunk := os.read(read, _MAX_FILTER + 8):
            data += chunk
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    return bytes(data)


def _newer_calls(library: ctypes.CDLL, seccomp: dict[str, Any], default: int, guest: str) -> bytes:
    """Instructions before the filter: ENOSYS for system calls newer than all that it knows.

    As runc does it: a C library then falls back to what the filter allows,
    which it would not do after EPERM.
    """
    permissive = (ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"])
    if default in permissive or default & 0xFFFF0000 == _ACT_TRACE or default == _ENOSYS_RESULT:
        return b""
    names = [str(n).encode() for rule in seccomp.get("syscalls") or [] for n in rule["names"]]
    own = _OF_GUEST[guest]
    wanted = {own[0], *(seccomp.get("architectures") or [])}
    code = b""
    for architecture in (name for name in own if name in _NUMBERED_APART):
        token = ARCHITECTURES[architecture]
        numbers = [library.seccomp_syscall_resolve_name_arch(token, name) for name in names]
        newest = max(numbers, default=-1)
        if architecture in wanted and newest >= 0:
            code += b"".join(
                struct.pack("<HBBI", *instruction)
                for instruction in (
                    (_LOAD, 0, 0, _ARCHITECTURE_AT),
                    (_JUMP_EQUAL, 0, 4, token),
                    (_LOAD, 0, 0, _NUMBER_AT),
                    (_JUMP_GREATER_EQUAL, 2, 0, _X32_BIT),
                    (_JUMP_GREATER, 0, 1, newest),
                    (_RETURN, 0, 0, _ENOSYS_RESULT),
                )
            )
    return code
