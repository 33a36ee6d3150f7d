"""Limits, device rules, scheduling and recursive mount options for the guest."""

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import BadRequest
from hypercontainer.guest import spec
from hypercontainer.guest.device_rules import device_program
from hypercontainer.guest.mounts import recursive_attributes
from hypercontainer.guest.resources import cgroup_files
from hypercontainer.guest.scheduling import personality, scheduling_keys

BLOCK, CHARACTER = 1, 2
MKNOD, READ, WRITE = 1, 2, 4
ALL = 7
DENY_ALL = {"allow": False, "access": "rwm"}


def verdict(rules: list[dict[str, Any]], kind: int, major: int, minor: int, access: int) -> bool:
    """Interpret the program as the kernel does (linux/bpf.h), for the few opcodes it has."""
    code = base64.b64decode(device_program({"devices": rules}))
    instructions = list(struct.iter_unpack("<BBhi", code))
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers = dict.fromkeys(range(10), 0)
    at = 0
    for _ in range(100_000):
        opcode, numbers, offset, value = instructions[at]
        target, source = numbers & 15, numbers >> 4
        at += 1
        match opcode:
            case 0x61:
                assert source == 1
                registers[target] = struct.unpack_from("<I", context, offset)[0]
            case 0xB7:
                registers[target] = value
            case 0xBF:
                registers[target] = registers[source]
            case 0x57:
                registers[target] &= value
            case 0x77:
                registers[target] >>= value
            case 0x55 | 0x15:
                if (registers[target] == value) == (opcode == 0x15):
                    at += offset
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("device", "allowed"),
    [
        ((CHARACTER, 1, 3, ALL), True),
        ((CHARACTER, 1, 5, READ), True),
        ((CHARACTER, 136, 7, READ | WRITE), True),
        ((CHARACTER, 5, 2, READ | WRITE), True),
        ((CHARACTER, 1, 1, READ), False),
        ((BLOCK, 8, 0, READ), False),
        ((BLOCK, 1, 3, READ), False),
        ((BLOCK, 8, 0, MKNOD), True),
    ],
)
@pytest.mark.parametrize("rules", [[], [DENY_ALL]])
def test_only_the_default_devices(
    rules: list[dict[str, Any]], device: tuple[int, int, int, int], allowed: bool
) -> None:
    assert verdict(rules, *device) is allowed


def test_the_last_rule_that_matches_counts_for_each_access() -> None:
    disk = {"type": "b", "major": 8, "minor": 0}
    rules = [
        DENY_ALL,
        {"allow": True, **disk, "access": "r"},
        {"allow": True, "type": "b", "major": 8, "access": "w"},
        {"allow": False, "type": "b", "major": 8, "minor": 1, "access": "w"},
    ]
    assert verdict(rules, BLOCK, 8, 0, READ | WRITE)
    assert verdict(rules, BLOCK, 8, 5, WRITE)
    assert not verdict(rules, BLOCK, 8, 5, READ)
    assert not verdict(rules, BLOCK, 8, 1, WRITE)
    assert not verdict(rules, BLOCK, 9, 0, WRITE)
    assert verdict([*rules, {"allow": True, "access": "rwm"}], BLOCK, 9, 0, ALL)
    assert verdict([{"allow": True, "type": "a"}], BLOCK, 9, 0, ALL)


RULES = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "type": st.sampled_from(["a", "b", "c"]),
        "major": st.sampled_from([-1, 7, 8]),
        "minor": st.sampled_from([-1, 0, 1]),
        "access": st.sampled_from(["r", "w", "m", "rw", "rwm"]),
    }
)


@given(st.lists(RULES, max_size=6), st.sampled_from([BLOCK, CHARACTER]), st.integers(1, 7))
def test_it_decides_as_the_rules_read(rules: list[dict[str, Any]], kind: int, access: int) -> None:
    def allowed(bit: int) -> bool:
        result = bit == MKNOD  # a default: any node may be made
        for rule in rules:
            everything = rule["type"] == "a"
            matches = everything or (
                {"b": BLOCK, "c": CHARACTER}[rule["type"]] == kind
                and rule["major"] in (-1, 8)
                and rule["minor"] in (-1, 1)
                and "mrw"[(MKNOD, READ, WRITE).index(bit)] in rule["access"]
            )
            if matches and bit != MKNOD:
                result = rule["allow"]
        return result

    expected = all(allowed(bit) for bit in (MKNOD, READ, WRITE) if access & bit)
    assert verdict(rules, kind, 8, 1, access) == expected


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"type": "z"}, "type"),
        ({"access": "x"}, "access"),
        ({"access": "rr"}, "access"),
        ({"type": "c", "major": "1"}, "major"),
        ({"type": "c", "major": -2}, "a device number"),
        ({"type": "c", "minor": 1 << 40}, "a device number"),
    ],
)
def test_bad_device_rules_are_named(rule: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest, match=rf"linux.resources.devices\[0\].*{key}"):
        device_program({"devices": [rule]})


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]}, {"hugetlb.2MB.max": "5"}),
        ({"unified": {"memory.high": "1", "io.max": "a b"}}, {"memory.high": "1", "io.max": "a b"}),
        ({"cpu": {"burst": 5, "idle": 1}}, {"cpu.max.burst": "5", "cpu.idle": "1"}),
        ({"memory": {"limit": 10, "swap": 20}}, {"memory.max": "10"}),
        ({"memory": {"limit": -1, "reservation": -1}}, {"memory.max": "max", "memory.low": "max"}),
    ],
)
def test_limits(resources: dict[str, Any], files: dict[str, str]) -> None:
    assert cgroup_files(resources) == files


@pytest.mark.parametrize(
    "resources",
    [
        {"hugepageLimits": [{"pageSize": "3MB", "limit": 5}]},
        {"unified": {"../x": "1"}},
        {"unified": {"cgroup.procs": "1"}},
        {"unified": {"memory/high": "1"}},
        {"unified": {"memory.high": 5}},
        {"memory": {"limit": 10, "swap": 5}},
    ],
)
def test_bad_limits(resources: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"linux\.resources"):
        cgroup_files(resources)


def test_scheduling() -> None:
    keys = scheduling_keys(
        {
            "scheduler": {"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RECLAIM"]},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 2},
        }
    )
    assert keys == {"scheduler": [1, 0, 5, 2, 0, 0, 0], "io_priority": 3 << 13 | 2}
    assert scheduling_keys({}) == {}
    assert personality({}) is None
    assert personality({"personality": {"domain": "LINUX32"}}) == 8


@pytest.mark.parametrize(
    "process",
    [
        {"scheduler": {"policy": "SCHED_ODD"}},
        {"scheduler": {"policy": "SCHED_OTHER", "nice": 50}},
        {"scheduler": {"policy": "SCHED_OTHER", "flags": ["X"]}},
        {"scheduler": {"policy": "SCHED_DEADLINE", "runtime": -1}},
        {"ioPriority": {"class": "X"}},
        {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 8}},
    ],
)
def test_bad_scheduling(process: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"process\.(scheduler|ioPriority)"):
        scheduling_keys(process)


def message(linux: dict[str, Any], **mount: Any) -> dict[str, Any]:
    config = {"linux": linux, "mounts": [{"destination": "/m", "type": "tmpfs", **mount}]}
    return spec.container_message("c", config, {}, lambda source, read_only: "s", {})


def test_recursive_options() -> None:
    assert recursive_attributes(["ro", "rro"]) == [1, 0]
    assert recursive_attributes(["rro", "rrw"]) == [0, 1]
    assert recursive_attributes(["rnosuid", "rnoexec", "rnoatime"]) == [2 | 8 | 0x10, 0x70]
    assert recursive_attributes(["ro"]) == [0, 0]
    assert message({}, options=["rnodev"])["mounts"][0]["attributes"] == [4, 0]
    assert "attributes" not in message({})["mounts"][0]


def test_tmpcopyup() -> None:
    assert message({}, options=["tmpcopyup"])["mounts"][0]["copy_up"] is True
    with pytest.raises(BadRequest, match="tmpcopyup"):
        message({}, type="proc", options=["tmpcopyup"])


def test_a_relative_destination_starts_at_the_root() -> None:
    assert message({}, destination="data/x")["mounts"][0]["target"] == "/data/x"


def test_time_offsets() -> None:
    offsets = {"monotonic": {"secs": 5}, "boottime": {"secs": -1, "nanosecs": 7}}
    linux = {"namespaces": [{"type": "time"}], "timeOffsets": offsets}
    found = message(linux)
    assert found["time_offsets"] == [[1, 5, 0], [7, -1, 7]]
    assert "time" in found["namespaces"]
    for bad in (
        {"timeOffsets": offsets},
        {**linux, "timeOffsets": {"realtime": {"secs": 1}}},
        {**linux, "timeOffsets": {"monotonic": {"nanosecs": 10**9}}},
    ):
        with pytest.raises(BadRequest, match=r"linux\.timeOffsets"):
            message(bad)
