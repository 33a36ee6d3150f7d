"""linux.resources.devices of an OCI configuration as a BPF program of the container's cgroup.

The program gets `struct bpf_cgroup_dev_ctx` (linux/bpf.h): the access wanted
and the kind of device, its major and its minor number. Of the rules that
match, the last one counts, for each of read, write and mknod by itself
(config-linux.md "Allowed Device list"). What no rule allows is refused, but
for the devices that each container has.
"""

import binascii
import struct

from ..errors import BadRequest
from ..quick.types import Any
from .fields import read_integer, read_objects, read_text

_WHERE = "linux.resources."
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7
_KINDS = {"b": 1, "c": 2}
_MAX_RULES = 1000

# What the specification makes available in each container, as runc does it:
# making any node, and using the standard devices and pseudo-terminals.
_DEFAULTS: tuple[tuple[str, int, int, str], ...] = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    ("c", 5, 0, "rwm"),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, -1, "rwm"),
    ("c", 10, 200, "rwm"),
)

# Opcodes of linux/bpf_common.h and linux/bpf.h.
_LDX_W = 0x61
_MOV_K, _MOV_X, _AND_K, _RSH_K = 0xB7, 0xBF, 0x57, 0x77
_JNE_K, _JEQ_K, _EXIT = 0x55, 0x15, 0x95
_CONTEXT, _RESULT, _KIND, _NEED, _MAJOR, _MINOR, _SCRATCH = 1, 0, 2, 3, 4, 5, 6


def device_program(resources: dict[str, Any]) -> str:
    """The program as base64 of its `struct bpf_insn`. Raises BadRequest naming the key."""
    rules = [_rule(r, where) for where, r in read_objects(resources, "devices", _WHERE)]
    if len(rules) > _MAX_RULES:
        raise BadRequest(f"{_WHERE}devices: more than {_MAX_RULES} rules")
    rules += [(True, _KINDS[k], major, minor, _mask(a)) for k, major, minor, a in _DEFAULTS]
    code = [
        _instruction(_LDX_W, _KIND, _CONTEXT, 0),
        _instruction(_MOV_X, _NEED, _KIND),
        _instruction(_AND_K, _KIND, value=0xFFFF),
        _instruction(_RSH_K, _NEED, value=16),
        _instruction(_LDX_W, _MAJOR, _CONTEXT, 4),
        _instruction(_LDX_W, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(rules):
        test = _test(*rule)
        code += test
        if len(test) == 2:
            break
    else:
        code += _return(0)
    return binascii.b2a_base64(b"".join(code), newline=False).decode()


def _mask(access: str) -> int:
    return sum(_ACCESS[letter] for letter in access)


def _rule(rule: dict[str, Any], where: str) -> tuple[bool, int, int, int, int]:
    """allow, kind (0: any), major (-1: any), minor, access."""
    kind = read_text(rule, "type", f"{where}.") or "a"
    if kind not in ("a", "b", "c", "u"):
        raise BadRequest(f"{where}.type: unknown device type {kind!r}")
    access = read_text(rule, "access", f"{where}.")
    if access.strip("rwm") or len(set(access)) != len(access):
        raise BadRequest(f"{where}.access: {access!r} is not made of r, w and m")
    numbers = [read_integer(rule, key, f"{where}.", -1) for key in ("major", "minor")]
    if any(not -1 <= number < 1 << 31 for number in numbers):
        raise BadRequest(f"{where}: a device number is out of range")
    major, minor = numbers
    if kind == "a":
        # As in cgroup v1, "a" is every device, whatever the numbers say.
        return bool(rule.get("allow")), 0, -1, -1, _ALL_ACCESS
    return bool(rule.get("allow")), _KINDS.get(kind, 2), major, minor, _mask(access) or _ALL_ACCESS


def _test(allow: bool, kind: int, major: int, minor: int, access: int) -> list[bytes]:
    """The instructions of one rule; only a rule for everything always returns."""
    conditions = [
        (register, value)
        for register, value in ((_KIND, kind or -1), (_MAJOR, major), (_MINOR, minor))
        if value >= 0
    ]
    if not conditions and access == _ALL_ACCESS:
        return _return(int(allow))
    if allow:
        # What is allowed is wanted no longer; nothing left means yes.
        body = [
            _instruction(_AND_K, _NEED, value=_ALL_ACCESS & ~access),
            _instruction(_JNE_K, _NEED, offset=2),
            *_return(1),
        ]
    else:
        body = [
            _instruction(_MOV_X, _SCRATCH, _NEED),
            _instruction(_AND_K, _SCRATCH, value=access),
            _instruction(_JEQ_K, _SCRATCH, offset=2),
            *_return(0),
        ]
    code: list[bytes] = []
    for index, (register, value) in enumerate(conditions):
        rest = len(conditions) - index - 1 + len(body)
        code.append(_instruction(_JNE_K, register, offset=rest, value=value))
    return code + body


def _return(result: int) -> list[bytes]:
    return [_instruction(_MOV_K, _RESULT, value=result), _instruction(_EXIT)]


def _instruction(
    opcode: int, target: int = 0, source: int = 0, offset: int = 0, *, value: int = 0
) -> bytes:
    return struct.pack("<BBhi", opcode, target | source << 4, offset, value)
