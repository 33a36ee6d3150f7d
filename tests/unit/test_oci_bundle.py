"""Bundles: what is wrong with one is said before anything is started."""

import json
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, Conflict
from hypercontainer.guest import spec
from hypercontainer.oci import bundle
from hypercontainer.oci.main import main
from hypercontainer.sandbox import vm_size

GOOD = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["sh"]}}


def make(path: Path, config: Any) -> Path:
    (path / "rootfs").mkdir(exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (path / "config.json").write_text(text)
    return path


def test_a_good_bundle(tmp_path: Path) -> None:
    config, rootfs = bundle.load(str(make(tmp_path, GOOD)))
    assert config == GOOD
    assert rootfs == str(tmp_path / "rootfs")


def test_an_absolute_root(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    make(tmp_path, {**GOOD, "root": {"path": str(tmp_path / "other")}})
    assert bundle.load(str(tmp_path))[1] == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "an object is expected"),
        ("null", "an object is expected"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
        ({**GOOD, "process": "sh"}, "process: an object"),
        ({"ociVersion": "1.0.2", "root": {"path": "rootfs"}}, "process: an object"),
        ({"process": {}}, "ociVersion"),
        ({**GOOD, "ociVersion": "0.9"}, "'0.9' is not supported"),
        ({**GOOD, "ociVersion": "2.0.0"}, "'2.0.0' is not supported"),
        ({**GOOD, "ociVersion": 1}, "ociVersion"),
        ({**GOOD, "root": None}, "root.path"),
        ({**GOOD, "root": "rootfs"}, "root.path"),
        ({**GOOD, "root": {"path": ""}}, "root.path"),
        ({**GOOD, "root": {"path": "missing"}}, "invalid rootfs: stat .*/missing"),
        ({**GOOD, "root": {"path": "config.json"}}, "invalid rootfs"),
        (" " * (5 << 20), "larger than 4 MiB"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:12],
)
def test_what_is_wrong_is_said(tmp_path: Path, config: Any, text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        bundle.load(str(make(tmp_path, config)))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(BadRequest, match="not JSON"):
        bundle.load(str(tmp_path))


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"JSON specification file .*config.json not found"):
        bundle.load(str(tmp_path))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BadRequest, match="cannot read"):
        bundle.load(str(tmp_path))


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_bad_bundle_leaves_nothing(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, {**GOOD, "root": {"path": "missing"}})
    root = tmp_path / "root"
    assert main(["--root", str(root), command, "--bundle", str(tmp_path), "x"]) == 1
    assert not root.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("terminal", "socket", "text"),
    [
        (True, [], "setting console socket"),
        (False, ["--console-socket", "/s"], "not detach or allocate tty"),
    ],
)
def test_create_needs_a_console_socket_for_a_terminal_and_only_then(
    tmp_path: Path,
    terminal: bool,
    socket: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path, {**GOOD, "process": {"args": ["sh"], "terminal": terminal}})
    root = str(tmp_path / "root")
    assert main(["--root", root, "create", *socket, "--bundle", str(tmp_path), "x"]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resources", "size"),
    [
        ({}, (1, 128)),
        (None, (1, 128)),
        ({"memory": {"limit": 16 << 20}}, (1, 128)),
        ({"memory": {"limit": 512 << 20}}, (1, 576)),
        ({"memory": {"limit": -1}}, (1, 128)),
        ({"cpu": {"quota": 50000, "period": 100000}}, (1, 128)),
        ({"cpu": {"quota": -1, "period": 100000}}, (1, 128)),
        ({"memory": None, "cpu": None}, (1, 128)),
    ],
)
def test_the_vm_is_as_large_as_the_limits_ask(resources: Any, size: tuple[int, int]) -> None:
    assert vm_size({"linux": {"resources": resources}}, 1, 128) == size


@pytest.mark.parametrize(
    "resources",
    [
        [1],
        "x",
        {"cpu": "x"},
        {"memory": {"limit": "1g"}},
        {"cpu": {"quota": "1"}},
        {"cpu": {"quota": 1, "period": "x"}},
        {"cpu": {"quota": 5, "period": -1}},
    ],
)
def test_bad_limits_are_named(resources: Any) -> None:
    with pytest.raises(BadRequest, match=r"linux\.resources"):
        vm_size({"linux": {"resources": resources}}, 1, 128)


def test_the_default_configuration_is_one_that_we_take(tmp_path: Path) -> None:
    assert main(["spec", "--bundle", str(tmp_path)]) == 0
    (tmp_path / "rootfs").mkdir()
    config, _ = bundle.load(str(tmp_path))
    message = spec.container_message("c", config, {}, lambda source, read_only: source, {})
    assert message["readonly"] is True
    assert message["hostname"] == "runv"
    process = spec.process_message("init", config["process"], stdio=1, stderr=None, stdin=True)
    assert process["args"] == ["sh"]
    assert process["capabilities"]["bounding"] == f"{(1 << 29) | (1 << 5) | (1 << 10):x}"


def test_spec_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(Conflict, match=r"exists\. Remove it first"):
        bundle.write_spec(str(tmp_path))
    assert (tmp_path / "config.json").read_text() == "mine"
