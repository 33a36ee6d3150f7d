"""Seccomp filters as the guest's kernel would run them."""

import base64
import struct
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, NotSupported
from hypercontainer.guest.seccomp import compile_filter

X86_64, X86 = 0xC000003E, 0x40000003
ALLOW, ERRNO, KILL, TRAP, LOG = 0x7FFF0000, 0x00050000, 0, 0x00030000, 0x7FFC0000
READ, WRITE, CLONE = 0, 1, 56
ENOSYS, EPERM = 38, 1


def run(
    seccomp: dict[str, Any], number: int, *args: int, arch: int = X86_64, guest: str = "amd64"
) -> int:
    """Interpret the classic BPF on one system call (linux/seccomp.h, struct seccomp_data)."""
    program = list(struct.iter_unpack("<HBBI", base64.b64decode(compile_filter(seccomp, guest)[0])))
    data = struct.pack("<iIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
    accumulator, memory, at = 0, [0] * 16, 0
    while True:
        code, true, false, value = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                accumulator &= value
            case 0x02:
                memory[value] = accumulator
            case 0x60:
                accumulator = memory[value]
            case 0x05:
                at += value
            case 0x15:
                at += true if accumulator == value else false
            case 0x25:
                at += true if accumulator > value else false
            case 0x35:
                at += true if accumulator >= value else false
            case 0x45:
                at += true if accumulator & value else false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"opcode {code:#x}")


def rule(action: str, *names: str, **keys: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **keys}


def argument(index: int, op: str, value: int, other: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": other}


def test_a_list_of_what_is_allowed() -> None:
    seccomp = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [rule("SCMP_ACT_ALLOW", "read", "clone", "nosuch")],
    }
    assert run(seccomp, READ) == ALLOW
    assert run(seccomp, WRITE) == ERRNO | EPERM
    assert run(seccomp, CLONE) == ALLOW


def test_calls_newer_than_the_filter_are_not_there() -> None:
    seccomp: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [rule("SCMP_ACT_ALLOW", "read", "clone")],
    }
    assert run(seccomp, CLONE + 1) == ERRNO | ENOSYS
    assert run(seccomp, 9999) == ERRNO | ENOSYS
    assert run(seccomp, 9999, arch=X86) == ERRNO | ENOSYS
    assert run(seccomp, CLONE - 1) == ERRNO | EPERM
    assert run({**seccomp, "defaultAction": "SCMP_ACT_KILL"}, 9999) == ERRNO | ENOSYS
    assert run({**seccomp, "defaultAction": "SCMP_ACT_LOG"}, 9999) == LOG
    x32 = run(seccomp, 0x40000000 | 9999)
    assert x32 != ALLOW


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ("SCMP_ACT_KILL", KILL),
        ("SCMP_ACT_KILL_THREAD", KILL),
        ("SCMP_ACT_KILL_PROCESS", 0x80000000),
        ("SCMP_ACT_TRAP", TRAP),
        ("SCMP_ACT_LOG", LOG),
        ("SCMP_ACT_ERRNO", ERRNO | 5),
        ("SCMP_ACT_TRACE", 0x7FF00000 | 5),
    ],
)
def test_actions(action: str, result: int) -> None:
    syscalls = [rule(action, "write", errnoRet=5)]
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}
    assert run(seccomp, WRITE) == result
    assert run(seccomp, READ) == ALLOW


@pytest.mark.parametrize(
    ("test", "yes", "no"),
    [
        (argument(0, "EQ", 5), 5, 6),
        (argument(0, "NE", 5), 6, 5),
        (argument(0, "LT", 5), 4, 5),
        (argument(0, "LE", 5), 5, 6),
        (argument(0, "GT", 5), 6, 5),
        (argument(0, "GE", 5), 5, 4),
        (argument(0, "MASKED_EQ", 0xF0, 0x20), 0x2F, 0x3F),
        (argument(0, "EQ", 1 << 40), 1 << 40, 0),
    ],
)
def test_arguments(test: dict[str, Any], yes: int, no: int) -> None:
    syscalls = [rule("SCMP_ACT_ALLOW", "write", args=[test])]
    seccomp = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls}
    assert run(seccomp, WRITE, yes) == ALLOW
    assert run(seccomp, WRITE, no) == ERRNO | EPERM


def test_tests_of_one_argument_are_alternatives_and_of_several_all_needed() -> None:
    def seccomp(*tests: dict[str, Any]) -> dict[str, Any]:
        syscalls = [rule("SCMP_ACT_ALLOW", "write", args=list(tests))]
        return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls}

    either = seccomp(argument(0, "EQ", 1), argument(0, "EQ", 2))
    both = seccomp(argument(0, "EQ", 1), argument(1, "EQ", 2))
    assert [run(either, WRITE, n) for n in (1, 2, 3)] == [ALLOW, ALLOW, ERRNO | EPERM]
    assert [run(both, WRITE, 1, n) for n in (2, 3)] == [ALLOW, ERRNO | EPERM]


def test_flags() -> None:
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    seccomp: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}
    assert compile_filter(seccomp)[1] == 6


@pytest.mark.parametrize(
    "seccomp",
    [
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_NOTIFY", "read")]},
    ],
)
def test_listeners_are_refused(seccomp: dict[str, Any]) -> None:
    with pytest.raises(NotSupported, match=r"linux\.seccomp"):
        compile_filter(seccomp)


@pytest.mark.parametrize(
    "seccomp",
    [
        {},
        {"defaultAction": "X"},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule("SCMP_ACT_KILL", "read", args=[argument(9, "EQ", 1)])],
        },
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule("SCMP_ACT_KILL", "read", args=[argument(0, "X", 1)])],
        },
    ],
)
def test_what_is_wrong_is_named(seccomp: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"linux\.seccomp"):
        compile_filter(seccomp)


def test_a_filter_for_another_architecture() -> None:
    seccomp = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
    }
    aarch64 = 0xC00000B7
    assert run(seccomp, 63, arch=aarch64, guest="arm64") == ALLOW, "read has another number there"
    assert run(seccomp, READ, arch=aarch64, guest="arm64") == ERRNO | EPERM
    assert run(seccomp, READ, guest="arm64") == KILL, "the host's programs don't run there"
