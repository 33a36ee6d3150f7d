"""runv's update, events, features and the quick way of state."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, NotSupported
from hypercontainer.oci import bundle, events, update
from hypercontainer.oci.arguments import Arguments
from hypercontainer.oci.main import main, parser
from hypercontainer.oci.parser import size
from hypercontainer.oci.state import dumps, quick_state
from hypercontainer.system import processes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-1", -1),
        ("4096", 4096),
        ("64k", 65536),
        ("64M", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("1gb", 1 << 30),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "x", "1x", "M", "1 2", "1,5"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="invalid size"):
        size(text)


def test_a_change_is_put_over_what_was() -> None:
    before = {"cpu": {"quota": 5, "period": 10}, "memory": {"limit": 7}}
    changes = {"cpu": {"quota": 6, "shares": 0, "cpus": ""}, "pids": {"limit": 3}, "memory": None}
    assert update.merge(before, changes) == {
        "cpu": {"quota": 6, "period": 10},
        "memory": {"limit": 7},
        "pids": {"limit": 3},
    }
    assert before == {"cpu": {"quota": 5, "period": 10}, "memory": {"limit": 7}}


def _parsed(argv: list[str]) -> Arguments:
    return parser().parse_args(argv, namespace=Arguments())


def test_flags_of_update() -> None:
    args = _parsed(
        [
            *("update", "x", "--memory", "64M", "--memory-swap=-1", "--cpu-quota", "-1"),
            *("--cpuset-cpus", "0-1", "--pids-limit", "10"),
        ]
    )
    assert update._from_flags(args) == {
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"quota": -1, "cpus": "0-1"},
        "pids": {"limit": 10},
    }


@pytest.mark.parametrize("flag", ["--cpu-rt-period", "--l3-cache-schema"])
def test_flags_of_update_without_a_meaning_are_refused(flag: str) -> None:
    with pytest.raises(NotSupported, match=flag):
        update._from_flags(_parsed(["update", flag, "5", "x"]))


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("[]", "an object"), ('{"rdma": {"a": 1}}', "rdma")]
)
def test_bad_resources(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises((BadRequest, NotSupported), match=said):
        update._from_file(str(path))


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("100ms", 0.1), ("1m30s", 90), ("0.5s", 0.5), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert events.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "0s", "5 s", "1d", "5s "])
def test_bad_durations(text: str) -> None:
    with pytest.raises(BadRequest):
        events.duration(text)


def test_statistics_in_the_form_of_runc() -> None:
    found = events.statistics(
        {
            "memory.current": "4096\n",
            "memory.max": "max\n",
            "memory.stat": "anon 100\nfile 200\n",
            "memory.events": "low 0\nmax 3\noom_kill 1\n",
            "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_throttled 2\n",
            "pids.current": "2\n",
            "pids.max": "100\n",
            "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\nodd\n",
        }
    )
    assert found["memory"]["usage"] == {"limit": 0, "usage": 4096, "max": 0, "failcnt": 3}
    assert found["memory"]["cache"] == 200
    assert found["cpu"]["usage"] == {"total": 30000, "kernel": 10000, "user": 20000}
    assert found["cpu"]["throttling"]["throttledPeriods"] == 2
    assert found["pids"] == {"current": 2, "limit": 100}
    assert found["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 0, "value": 10, "op": "Read"},
        {"major": 8, "minor": 0, "value": 20, "op": "Write"},
    ]
    assert events.statistics({})["pids"] == {"current": 0, "limit": 0}


def test_features(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ociVersionMin"] == "1.0.0"
    assert {"rro", "tmpcopyup", "nosuid", "rslave"} <= set(found["mountOptions"])
    assert "startContainer" in found["hooks"]
    assert "user" not in found["linux"]["namespaces"]
    assert "CAP_SYS_ADMIN" in found["linux"]["capabilities"]
    assert "SCMP_ACT_ERRNO" in found["linux"]["seccomp"]["actions"]


def test_a_rootless_specification_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="--rootless"):
        bundle.write_spec(str(tmp_path), rootless=True)


def make_container(root: Path, **container: Any) -> None:
    started = processes.start_time(os.getpid())
    (root / "x" / "sandbox").mkdir(parents=True)
    record = {
        "id": "x",
        "owner": "x",
        "guest_id": "c",
        "bundle": "/b\u00fc",
        "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00Z",
        "pid": os.getpid(),
        "pid_started": started,
        "annotations": {"a": 'q"\\\n', "b": ""},
        "oci_version": "1.0.2",
        "uid": 0,
    }
    sandbox = {
        "pid": os.getpid(),
        "started": started,
        "status": "running",
        "containers": {"c": {"status": "running"}},
        **container,
    }
    (root / "x" / "container.json").write_text(json.dumps(record))
    (root / "x" / "sandbox" / "state.json").write_text(json.dumps(sandbox))


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"status": "stopped", "containers": {"c": {"status": "stopped"}}},
        {"containers": {"c": {"status": "paused"}}},
        {"containers": {}},
        {"started": 1},
    ],
)
def test_the_quick_state_is_the_slow_one(
    tmp_path: Path, container: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    make_container(tmp_path, **container)
    quick = quick_state(["--root", str(tmp_path), "state", "x"], "/none")
    assert main(["--root", str(tmp_path), "--debug", "state", "x"]) == 0
    slow = capsys.readouterr().out
    assert quick is not None
    assert json.loads(quick) == json.loads(slow)
    assert main(["--root", str(tmp_path), "--log-format", "json", "state", "x"]) == 0
    assert capsys.readouterr().out == quick


@pytest.mark.parametrize(
    "argv",
    [
        ["state", "missing"],
        ["state", "../x"],
        ["state", "-h"],
        ["state"],
        ["state", "x", "y"],
        ["--debug", "state", "x"],
        ["kill", "x"],
        [],
    ],
)
def test_what_the_quick_way_leaves_to_the_other(tmp_path: Path, argv: list[str]) -> None:
    make_container(tmp_path)
    assert quick_state(argv, str(tmp_path)) is None


def test_a_broken_record_is_left_to_the_other(tmp_path: Path) -> None:
    make_container(tmp_path)
    for text in ("", "{", "[]", "{}", '{"owner": 5}'):
        (tmp_path / "x" / "container.json").write_text(text)
        assert quick_state(["state", "x"], str(tmp_path)) is None


def test_the_quick_json_is_json() -> None:
    value = {"a": {"b": '\u2028\x00"\\/', "c": {}}, "d": 5, "e": ""}
    assert json.loads(dumps(value)) == value
    assert dumps(value) == json.dumps(value, indent=2, ensure_ascii=False) + "\n"
