"""What runv refuses, as runc does: on stderr and in the log, before there is a VM."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rootfs import make_config, make_tree
from tests.e2e.runv_process import Runv

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runv]:
    """runv with an empty root, which must stay empty."""
    found = Runv(tmp_path_factory.mktemp("runv"), make_tree(tmp_path_factory.mktemp("r") / "root"))
    yield found
    assert not found.root.exists() or not list(found.root.iterdir())


def refused(runv: Runv, text: str, *argv: str) -> None:
    """The command fails quickly, with one line that says `text`, in the log too."""
    log = runv.directory / "log.json"
    log.unlink(missing_ok=True)
    done = runv("--log", str(log), "--log-format", "json", *argv, check=False)
    said = done.stderr.decode()
    assert done.returncode != 0
    assert re.search(text, said, re.IGNORECASE), said
    assert "Traceback" not in said
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[-1]["level"] == "error"
    assert re.search(text, entries[-1]["msg"], re.IGNORECASE)


def capability(config: dict[str, Any]) -> object:
    return config["process"].update(capabilities={"bounding": ["CAP_NOSUCH"]})


def mount(**keys: Any) -> Change:
    return lambda config: config["mounts"].append(keys)


def namespace(**keys: Any) -> Change:
    return lambda config: config["linux"]["namespaces"].append(keys)


def process(**keys: Any) -> Change:
    return lambda config: config["process"].update(keys)


def linux(**keys: Any) -> Change:
    return lambda config: config["linux"].update(keys)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(ociVersion="0.5"), "version"),
        (lambda c: c.update(ociVersion="2.0.0"), "version"),
        (lambda c: c.update(ociVersion=7), "version"),
        (lambda c: c.pop("ociVersion"), "version"),
        (lambda c: c.pop("process"), "process"),
        (lambda c: c.update(process=[]), "process"),
        (lambda c: c.update(root={"path": "/no/such/root"}), "rootfs|no such file"),
        (lambda c: c.update(root={}), "root"),
        (lambda c: c.update(linux="x"), "linux"),
        (lambda c: c.update(mounts={}), "mounts"),
        (lambda c: c.update(hooks={"poststart": [{"path": "relative"}]}), "hook|absolute"),
        (capability, "CAP_NOSUCH"),
        (process(args=[]), "args"),
        (process(args="sh"), "args"),
        (process(cwd="relative"), "cwd|absolute"),
        (process(env=[1]), "env"),
        (process(terminal=True), "tty|terminal|console"),
        (process(rlimits=[{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]), "NOSUCH"),
        (process(user={"uid": "root"}), "uid"),
        (mount(destination="/x", type="tmpfs", source="x", options=["nosuch"]), "/x"),
        (mount(destination="x y", type="tmpfs", source="x", options=["nosuch"]), "nosuch|absolute"),
        (mount(destination="/x", type="bind", source="/no/such", options=["bind"]), "/no/such"),
        (mount(type="tmpfs", source="x"), "destination"),
        (linux(namespaces=[{"type": "nosuch"}]), "nosuch|namespace"),
        (namespace(type="network", path="/no/such"), "/no/such"),
        (linux(sysctl={"nosuch.x": "1"}), "nosuch"),
        (linux(resources={"memory": {"limit": "x"}}), "limit"),
        (linux(seccomp={"defaultAction": "NOSUCH"}), "NOSUCH"),
        (linux(devices=[{"path": "/dev/x", "type": "z"}]), "type|device"),
        (linux(rootfsPropagation="nosuch"), "propagation"),
        (linux(cgroupsPath="/a/../../b"), "cgroupsPath"),
    ],
)
def test_configurations(runv: Runv, change: Change, text: str) -> None:
    bundle = Path(runv.bundle("true"))
    config = copy.deepcopy(make_config("true"))
    config["root"] = {"path": str(runv.rootfs)}
    change(config)
    (bundle / "config.json").write_text(json.dumps(config))
    refused(runv, text, "create", "--bundle", str(bundle), "bad")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "JSON|config.json"),
        (b"{", "JSON|config.json"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"\xff\xfe\x00", "JSON|config.json|utf"),
        (b"[" * 100000, "JSON|nested|config.json"),
        (b'{"a":"' + b"x" * (5 << 20) + b'"}', "larger"),
    ],
)
def test_what_is_no_configuration(runv: Runv, content: bytes, text: str) -> None:
    bundle = Path(runv.bundle("true"))
    (bundle / "config.json").write_bytes(content)
    refused(runv, text, "create", "--bundle", str(bundle), "bad")


def test_no_bundle(runv: Runv) -> None:
    refused(runv, "not found|no such", "create", "--bundle", "/no/such", "bad")


@pytest.mark.parametrize("cid", ["a/b", "../x", "..", "", "a b", "x" * 1025, "é"])
def test_ids(runv: Runv, cid: str) -> None:
    bundle = runv.bundle("true")
    refused(runv, "id|name", "create", "--bundle", bundle, cid)
    refused(runv, "id|name|exist", "state", cid)
    refused(runv, "id|name|exist", "delete", cid)


def test_a_pid_file_in_a_missing_directory(runv: Runv) -> None:
    bundle = runv.bundle("true")
    refused(runv, "/no/such", "create", "--bundle", bundle, "--pid-file", "/no/such/pid", "bad")


@pytest.mark.parametrize("command", ["start", "state", "delete", "pause", "resume", "ps", "kill"])
def test_a_container_that_does_not_exist(runv: Runv, command: str) -> None:
    refused(runv, "does not exist", command, "nobody")


def test_a_terminal_and_its_socket(runv: Runv, tmp_path: Path) -> None:
    bundle = runv.bundle("true", terminal=True)
    refused(runv, "tty|console", "create", "--bundle", bundle, "bad")
    nobody = str(tmp_path / "nobody")
    refused(runv, "nobody", "create", "--bundle", bundle, "--console-socket", nobody, "bad")
    other = runv.bundle("true")
    refused(runv, "console", "create", "--bundle", other, "--console-socket", nobody, "bad")


def test_a_root_where_nothing_can_be_made(runv: Runv) -> None:
    bundle = runv.bundle("true")
    refused(
        runv,
        "create failed: .*/proc/nothing",
        "--root",
        "/proc/nothing",
        "create",
        "-b",
        bundle,
        "x",
    )
