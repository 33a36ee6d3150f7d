"""OCI configurations as messages to the guest: every value lands, every bad key is named."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.guest import spec
from hypercontainer.guest.mounts import parse_options
from hypercontainer.guest.resources import cgroup_files
from hypercontainer.oci.bundle import default_spec
from hypercontainer.system import syscalls as sys

INFINITY = 2**64 - 1


def bind(source: str, read_only: bool) -> str:
    return f"share{source}{':ro' if read_only else ''}"


def message(config: dict[str, Any]) -> dict[str, Any]:
    return spec.container_message("c", config, {"kind": "share", "path": "c/1"}, bind, {})


def process(**keys: Any) -> dict[str, Any]:
    return spec.process_message("init", {"args": ["sh"], **keys}, stdio=1, stderr=2, stdin=True)


def mount(**keys: Any) -> dict[str, Any]:
    mounts = [{"destination": "/m", "source": "src", "type": "tmpfs", **keys}]
    found: dict[str, Any] = message({"mounts": mounts})["mounts"][0]
    return found


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ([], 0),
        (["ro", "nosuid", "nodev", "noexec"], 15),
        (["ro", "rw"], 0),
        (["rw", "ro"], 1),
        (["noexec", "exec", "nosuid", "suid", "nodev", "dev"], 0),
        (["bind"], sys.MS_BIND),
        (["rbind", "ro"], sys.MS_BIND | sys.MS_REC | sys.MS_RDONLY),
        (["strictatime"], sys.MS_STRICTATIME),
        (["relatime", "norelatime"], 0),
        (["noatime", "nodiratime", "sync", "dirsync"], 1024 | 2048 | 16 | 128),
        (["defaults"], 0),
    ],
)
def test_mount_flags(options: list[str], flags: int) -> None:
    assert parse_options(options, "m").flags == flags


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("private", 1 << 18),
        ("rprivate", 1 << 18 | 16384),
        ("shared", 1 << 20),
        ("rshared", 1 << 20 | 16384),
        ("slave", 1 << 19),
        ("rslave", 1 << 19 | 16384),
        ("unbindable", 1 << 17),
        ("runbindable", 1 << 17 | 16384),
    ],
)
def test_propagation(name: str, value: int) -> None:
    assert parse_options(["rbind", name], "m") == (sys.MS_BIND | sys.MS_REC, value, "")
    assert message({"linux": {"rootfsPropagation": name}})["propagation"] == value


def test_what_is_the_file_systems_own_is_passed_on_in_order() -> None:
    options = ["nosuid", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    found = mount(type="devpts", source="devpts", options=options)
    assert found == {
        "target": "/m",
        "source": "devpts",
        "fstype": "devpts",
        "flags": sys.MS_NOSUID,
        "data": "newinstance,ptmxmode=0666,mode=0620,gid=5",
        "propagation": 0,
    }


@pytest.mark.parametrize("keys", [{"type": "bind"}, {"type": "", "options": ["rbind"]}])
def test_binds_go_through_the_share(keys: dict[str, Any]) -> None:
    found = mount(source="/host", **keys)
    assert found["share"] == "share/host"
    assert found["flags"] & sys.MS_BIND
    assert "fstype" not in found


def test_a_read_only_bind_is_read_only_on_both_sides() -> None:
    found = mount(source="/host", type="bind", options=["rbind", "ro"])
    assert found["share"] == "share/host:ro"
    assert found["flags"] & sys.MS_RDONLY


@pytest.mark.parametrize("option", ["nonsense", "ro ", "RO", "", "idmap", "ridmap"])
def test_an_unknown_option_is_refused_with_the_mount_and_itself(option: str) -> None:
    with pytest.raises(BadRequest, match=r"mounts\[0\] \(/m\).*option") as caught:
        mount(options=[option])
    assert option in caught.value.message


def test_capabilities_become_masks() -> None:
    sets = {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHECKPOINT_RESTORE"]}
    assert process(capabilities=sets)["capabilities"] == {
        "bounding": "21",
        "effective": f"{1 << 40:x}",
        "inheritable": "0",
        "permitted": "0",
        "ambient": "0",
    }
    assert "capabilities" not in process()
    assert spec.capability_mask(["cap_net_admin"]) == f"{1 << 12:x}"
    with pytest.raises(BadRequest, match="CAP_FLY"):
        process(capabilities={"bounding": ["CAP_FLY"]})


@pytest.mark.parametrize(
    ("value", "sent"),
    [(0, 0), (1024, 1024), (INFINITY, -1), (-1, -1), (2**63 - 1, 2**63 - 1), (2**63, -1)],
)
def test_limits_and_infinity(value: int, sent: int) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": value, "hard": value}
    assert process(rlimits=[limit])["rlimits"] == [[7, sent, sent]]


def test_users() -> None:
    assert process()["user"] == {"uid": 0, "gid": 0, "groups": []}
    user = {"uid": 7, "gid": 8, "additionalGids": [1], "umask": 0o22, "username": "www:www"}
    assert process(user=user)["user"] == {
        "uid": 7,
        "gid": 8,
        "groups": [1],
        "umask": 18,
        "name": "www:www",
    }


def test_namespaces() -> None:
    kinds = [{"type": t} for t in ("pid", "network", "ipc", "uts", "cgroup")]
    kinds[1]["path"] = "/proc/1/ns/net"
    found = message({"linux": {"namespaces": kinds}})["namespaces"]
    assert found == ["pid", "ipc", "uts", "cgroup", "mount"]
    assert message({})["namespaces"] == ["mount", "cgroup"]
    with pytest.raises(NotSupported, match=r"linux.namespaces\[0\]: user"):
        message({"linux": {"namespaces": [{"type": "user"}]}})


def test_devices() -> None:
    devices: list[dict[str, Any]] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
        {"path": "/dev/x", "type": "u", "major": 1, "minor": 2, "fileMode": 0, "uid": 3, "gid": 4},
    ]
    first, second = message({"linux": {"devices": devices}})["devices"]
    assert (first["type"], first["mode"], first["uid"]) == ("c", 0o666, 0)
    assert (second["type"], second["mode"], second["uid"], second["gid"]) == ("c", 0, 3, 4)


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, {}),
        ({"memory": {"limit": 134217728}}, {"memory.max": "134217728"}),
        ({"memory": {"limit": -1}}, {"memory.max": "max"}),
        ({"memory": {"limit": 0, "reservation": 1024}}, {"memory.low": "1024"}),
        ({"cpu": {"quota": 50000, "period": 100000}}, {"cpu.max": "50000 100000"}),
        ({"cpu": {"quota": 50000}}, {"cpu.max": "50000 100000"}),
        ({"cpu": {"quota": -1, "period": 5000}}, {"cpu.max": "max 5000"}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "39"}),
        ({"cpu": {"shares": 1}}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 10**9}}, {"cpu.weight": "10000"}),
        ({"pids": {"limit": 100}}, {"pids.max": "100"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}),
        ({"memory": None, "cpu": None, "pids": None, "devices": [{"allow": False}]}, {}),
    ],
)
def test_resources_become_files_of_cgroup_v2(
    resources: dict[str, Any], files: dict[str, str]
) -> None:
    assert cgroup_files(resources) == files


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"linux": []}, "linux"),
        ({"root": "rootfs"}, "root"),
        ({"hostname": 7}, "hostname"),
        ({"mounts": {}}, "mounts"),
        ({"mounts": ["x"]}, "mounts[0]"),
        ({"mounts": [{"destination": "/a"}, {"destination": ""}]}, "mounts[1].destination"),
        ({"mounts": [{}]}, "mounts[0].destination"),
        ({"mounts": [{"destination": "/a", "options": "ro"}]}, "mounts[0].options"),
        ({"mounts": [{"destination": "/a", "options": [1]}]}, "mounts[0].options[0]"),
        ({"mounts": [{"destination": "/a", "type": 5}]}, "mounts[0].type"),
        ({"linux": {"namespaces": [{"type": "net"}]}}, "linux.namespaces[0].type"),
        ({"linux": {"namespaces": ["pid"]}}, "linux.namespaces[0]"),
        ({"linux": {"devices": ["x"]}}, "linux.devices[0]"),
        ({"linux": {"devices": [{"path": "dev", "type": "c"}]}}, "linux.devices[0].path"),
        ({"linux": {"devices": [{"path": "/dev/x", "type": "z"}]}}, "linux.devices[0].type"),
        (
            {"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": "1"}]}},
            "linux.devices[0].major",
        ),
        ({"linux": {"maskedPaths": "/proc"}}, "linux.maskedPaths"),
        ({"linux": {"readonlyPaths": [{}]}}, "linux.readonlyPaths[0]"),
        ({"linux": {"rootfsPropagation": "odd"}}, "linux.rootfsPropagation"),
        ({"linux": {"sysctl": [1]}}, "linux.sysctl"),
        ({"linux": {"resources": 1}}, "linux.resources"),
        ({"linux": {"resources": {"memory": 1}}}, "linux.resources.memory"),
        ({"linux": {"resources": {"memory": {"limit": "1g"}}}}, "linux.resources.memory.limit"),
        ({"linux": {"resources": {"cpu": {"shares": 1.5}}}}, "linux.resources.cpu.shares"),
        ({"linux": {"resources": {"pids": {"limit": True}}}}, "linux.resources.pids.limit"),
    ],
)
def test_a_bad_key_of_a_container_is_named(config: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        message(config)
    assert caught.value.message.startswith(key)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"args": []}, "process.args"),
        ({"args": None}, "process.args"),
        ({"args": "sh"}, "process.args"),
        ({"args": ["sh", 1]}, "process.args[1]"),
        ({"cwd": "tmp"}, "process.cwd"),
        ({"cwd": 1}, "process.cwd"),
        ({"env": {"A": "B"}}, "process.env"),
        ({"env": [1]}, "process.env[0]"),
        ({"user": "root"}, "process.user"),
        ({"user": {"uid": "0"}}, "process.user.uid"),
        ({"user": {"additionalGids": 5}}, "process.user.additionalGids"),
        ({"consoleSize": [1]}, "process.consoleSize"),
        ({"consoleSize": {"height": "x"}}, "process.consoleSize.height"),
        ({"rlimits": [{"type": "RLIMIT_ODD", "soft": 1, "hard": 1}]}, "process.rlimits[0].type"),
        ({"rlimits": [{"type": "RLIMIT_CPU", "hard": 1}]}, "process.rlimits[0].soft"),
        ({"rlimits": ["x"]}, "process.rlimits[0]"),
        ({"capabilities": ["CAP_KILL"]}, "process.capabilities"),
        ({"capabilities": {"bounding": "CAP_KILL"}}, "process.capabilities.bounding"),
        ({"oomScoreAdj": "high"}, "process.oomScoreAdj"),
    ],
)
def test_a_bad_key_of_a_process_is_named(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        process(**keys)
    assert caught.value.message.startswith(key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "path", "limit", "soft", "options", "destination"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """The path of every value within a JSON value."""
    keys: Any = value if isinstance(value, dict) else ()
    keys = range(len(value)) if isinstance(value, list) else keys
    found = [(k, *rest) for k in keys for rest in [(), *paths(value[k])]]
    return list(itertools.islice(found, 500))


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_value_in_any_place_is_taken_or_refused_by_name(data: st.DataObject) -> None:
    config = copy.deepcopy(default_spec())
    path = data.draw(st.sampled_from(paths(config)))
    parent: Any = config
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(JSON)
    oci = config["process"] if isinstance(config["process"], dict) else {}
    try:
        message(config)
        spec.process_message("init", oci, stdio=1, stderr=2, stdin=True)
    except HyperError as error:
        assert error.message
