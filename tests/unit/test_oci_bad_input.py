"""What is refused before any VM is started: each command names a guest kernel that is not there,
which would be the error if it came to a VM."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.oci.bundle import default_spec
from hypercontainer.oci.main import main
from hypercontainer.system import processes

KERNEL = "/no/such/kernel"


class Bundle:
    """A good bundle that a test spoils."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bundle"
        self.root = directory / "root"
        (self.path / "rootfs").mkdir(parents=True)
        self.config: dict[str, Any] = default_spec()
        self.config["process"]["terminal"] = False

    def create(self, *flags: str, cid: str = "x") -> int:
        """`runv create`; returns its status."""
        (self.path / "config.json").write_text(json.dumps(self.config))
        return self.runv("create", "--bundle", str(self.path), *flags, cid)

    def runv(self, *argv: str) -> int:
        """Any command."""
        return main(["--root", str(self.root), "--kernel", KERNEL, "--template", "off", *argv])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


def refused(bundle: Bundle, capsys: pytest.CaptureFixture[str], text: str, *flags: str) -> None:
    assert bundle.create(*flags) == 1
    error = capsys.readouterr().err
    assert text in error
    assert KERNEL not in error
    assert len(error.splitlines()) == 1
    assert not (bundle.root / "x").exists()


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        (["ociVersion"], "3.0", "'3.0' is not supported"),
        (["root", "path"], "missing", "invalid rootfs: stat"),
        (["process", "args"], [], "args must not be empty"),
        (["process", "cwd"], "", "Cwd property must not be empty"),
        (["process", "cwd"], "tmp", "Cwd must be an absolute path"),
        (["process", "capabilities", "bounding"], ["CAP_FLY"], "unknown capability 'CAP_FLY'"),
        (["process", "rlimits", 0, "type"], "RLIMIT_FLY", "unknown limit 'RLIMIT_FLY'"),
        (["mounts", 1, "options"], ["fly"], "mounts[1] (/dev): unknown mount option 'fly'"),
        (["mounts", 1], {"destination": "/x", "type": "bind", "source": "/no/src"}, "/no/src"),
        (["linux", "namespaces", 1, "type"], "pid", "duplicated ns 'pid'"),
        (["linux", "namespaces", 3, "type"], "time", "without a private UTS namespace"),
        (["linux", "namespaces", 5, "type"], "user", "user namespaces are not supported"),
        (["linux", "sysctl"], {"kernel.hostname": "x"}, "conflicts with the OCI"),
        (["linux", "intelRdt"], {"closID": "x"}, "linux.intelRdt is not supported"),
        (["linux", "seccomp"], {"defaultAction": "FLY"}, "unknown action 'FLY'"),
        (["linux", "resources", "devices", 0, "access"], "fly", "linux.resources.devices[0]"),
        (["linux", "resources", "unified"], {"cgroup.procs": "1"}, "linux.resources.unified"),
        (["hooks"], {"prestart": [{"path": "x"}]}, "hooks.prestart[0].path"),
        (["hooks"], {"later": []}, "unknown kind 'later'"),
    ],
)
def test_configurations(
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    keys: list[Any],
    value: Any,
    text: str,
) -> None:
    parent: Any = bundle.config
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    refused(bundle, capsys, text)


def test_a_good_one_would_have_come_to_the_kernel(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or else the tests here would show nothing."""
    assert bundle.create() == 1
    assert KERNEL in capsys.readouterr().err


def test_a_duplicate_id(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    directory = bundle.root / "x"
    (directory / "sandbox").mkdir(parents=True)
    (directory / "container.json").write_text("{}")
    (directory / "lock").touch()
    assert bundle.create() == 1
    assert "container with given ID already exists: x" in capsys.readouterr().err
    assert directory.exists()


def test_an_unknown_signal(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    started = processes.start_time(os.getpid())
    (bundle.root / "x" / "sandbox").mkdir(parents=True)
    record = {"id": "x", "owner": "x", "guest_id": "c", "pid": os.getpid(), "pid_started": started}
    (bundle.root / "x" / "container.json").write_text(json.dumps(record))
    assert bundle.runv("kill", "x", "SIGFLY") == 1
    assert capsys.readouterr().err == "runv: unknown signal 'SIGFLY'\n"


def test_a_pid_file_in_a_missing_directory(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(bundle, capsys, "pid file /no/such/pid", "--pid-file", "/no/such/pid")


def test_descriptors_for_a_program(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    refused(bundle, capsys, "--preserve-fds is not supported", "--preserve-fds", "2")


def test_a_terminal_without_a_console_socket(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle.config["process"]["terminal"] = True
    refused(bundle, capsys, "cannot allocate tty")


def test_a_console_socket_that_nobody_listens_on(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle.config["process"]["terminal"] = True
    path = str(tmp_path / "console")
    refused(bundle, capsys, f"console socket {path}: no such file", "--console-socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(path)
        refused(bundle, capsys, "connection refused", "--console-socket", path)
