"""Images from a real registry by the commands that people type."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd
from tests.images import make_image
from tests.registry import PASSWORD, USER, RegistryServer
from tests.tars import Item, make_tar


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry"), auth=True) as server:
        yield server


@pytest.fixture
def hyper(hyperd: Hyperd) -> Hyper:
    return Hyper(hyperd.socket)


@pytest.fixture
def logged_in(registry: RegistryServer, hyper: Hyper, tmp_path: Path) -> RegistryServer:
    """The registry, with credentials in the user's Docker configuration."""
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
    hyper.environment["DOCKER_CONFIG"] = str(tmp_path)
    return registry


def test_run_pulls_what_is_missing(hyper: Hyper, hyperd: Hyperd, logged_in: RegistryServer) -> None:
    name = logged_in.push(f"docker-archive:{hyperd.root.parent}/busybox.tar", "tools/busybox:1")
    done = hyper("run", "--rm", name, "echo", "hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
    assert name.partition(":")[0] in hyper.text("images")
    done = hyper("rmi", name)
    assert done.returncode == 0, done.stderr


def test_errors_are_one_line(hyper: Hyper, logged_in: RegistryServer, tmp_path: Path) -> None:
    hostile = make_image(tmp_path / "hostile.tar", [make_tar([Item("../x", b"1")])])
    arm = make_image(tmp_path / "arm.tar", [make_tar([Item("x")])], architecture="arm64")
    cases = {
        f"{logged_in.host}/none:1": "no such image",
        "127.0.0.1:9/x": "cannot reach registry 127.0.0.1:9: connection refused",
        logged_in.push(hostile, "hostile:1"): "'../x' leads out of the image",
        logged_in.push(arm, "arm:1"): "it offers linux/arm64",
        "Bad:1": "lower case",
    }
    for command in (["pull"], ["run", "--rm"], ["create"]):
        done = hyper(*command, "--platform", "linux/s390x", "busybox")
        assert b"platform linux/s390x: hyper has neither an emulator nor" in done.stderr, done
        assert (done.returncode != 0, done.stderr.count(b"\n")) == (True, 1), done
    done = hyper("run", "--rm", "--pull", "never", "--platform", "linux/arm64", "busybox")
    assert b"no such image for linux/arm64: busybox is here for linux/amd64" in done.stderr, done
    for name, reason in cases.items():
        for command in (["pull", name], ["run", "--rm", name, "true"]):
            done = hyper(*command)
            text = done.stderr.decode()
            assert reason in text, (command, text)
            assert text.splitlines()[-1].startswith("hyper: "), text
            assert done.returncode == (125 if command[0] == "run" else 1), (command, text)
    assert hyper.text("list", "-aq") == ""


def test_without_credentials(hyper: Hyper, registry: RegistryServer, tmp_path: Path) -> None:
    hyper.environment["DOCKER_CONFIG"] = str(tmp_path)
    done = hyper("pull", f"{registry.host}/tools/busybox:1")
    assert done.returncode != 0
    assert b"put credentials for" in done.stderr
