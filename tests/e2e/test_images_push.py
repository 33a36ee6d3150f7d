"""Images that go out: push to a real registry, save, and what others read of it."""

import base64
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.client import Client
from hypercontainer.errors import HyperError
from hypercontainer.images import Auth, ImageStore
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd
from tests.images import make_image, manifest_of
from tests.registry import PASSWORD, USER, RegistryServer
from tests.tars import Item, folder, make_tar
from tests.tokenserver import TokenFront

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry"), auth=True) as server:
        yield server


@pytest.fixture
def hyper(hyperd: Hyperd, tmp_path: Path) -> Hyper:
    hyper = Hyper(hyperd.socket)
    hyper.environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    return hyper


def login(hyper: Hyper, registry: RegistryServer) -> None:
    done = hyper(
        "login", "-u", USER, "--password-stdin", registry.host, input=PASSWORD.encode() + b"\n"
    )
    assert (done.returncode, done.stdout) == (0, b"Login Succeeded\n"), done.stderr


def blob_requests(registry: RegistryServer, method: str) -> int:
    return registry.log().count(f'"{method} /v2/') if method else 0


def config_of(*arguments: str) -> bytes:
    return subprocess.run(
        ["skopeo", "inspect", "--raw", "--config", *arguments],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout


def test_login_and_logout(hyper: Hyper, registry: RegistryServer, tmp_path: Path) -> None:
    done = hyper("login", "-u", USER, "--password-stdin", registry.host, input=b"wrong")
    assert done.returncode == 1
    assert b"denied for user someone" in done.stderr
    assert not (tmp_path / "docker/config.json").exists()
    login(hyper, registry)
    path = tmp_path / "docker/config.json"
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert json.loads(path.read_text())["auths"] == {registry.host: {"auth": pair}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hyper.text("logout", registry.host).startswith("Removing login credentials")
    assert json.loads(path.read_text())["auths"] == {}
    assert hyper.text("logout", registry.host).startswith("Not logged in")


def test_login_with_a_helper(hyper: Hyper, registry: RegistryServer, tmp_path: Path) -> None:
    programs, kept = tmp_path / "bin", tmp_path / "kept"
    programs.mkdir()
    helper = programs / "docker-credential-test"
    helper.write_text(
        f"#!/bin/sh\ncase $1 in store) cat > {kept};; erase) rm {kept};;"
        f" get) [ -e {kept} ] && cat {kept} || {{ echo credentials not found; exit 1; }};; esac\n"
    )
    helper.chmod(0o755)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text('{"credsStore": "test", "other": 1}')
    hyper.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    login(hyper, registry)
    stored = json.loads(kept.read_text())
    assert stored == {"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD}
    assert json.loads((tmp_path / "docker/config.json").read_text())["other"] == 1
    hyper.text("logout", registry.host)
    assert not kept.exists()


def test_push_by_hyper(hyper: Hyper, hyperd: Hyperd, registry: RegistryServer) -> None:
    name = f"{registry.host}/out/busybox:2"
    hyper.text("tag", "busybox", name)
    done = hyper("push", name)
    assert done.returncode == 1
    assert b"wants a user" in done.stderr
    login(hyper, registry)
    done = hyper("push", name)
    assert done.returncode == 0, done.stderr
    assert b"Pushed" in done.stderr and b"2: digest: sha256:" in done.stderr
    config = config_of("--tls-verify=false", f"--creds={USER}:{PASSWORD}", f"docker://{name}")
    image = Client(hyper.host).inspect_image(name)
    assert [d for d in image["RepoDigests"] if d.startswith(f"{registry.host}/out/busybox@")]
    assert json.loads(config)["rootfs"]["diff_ids"] == image["RootFS"]["Layers"]
    uploads = blob_requests(registry, "POST")
    done = hyper("push", name)
    assert b"Layer already exists" in done.stderr, done.stderr
    assert blob_requests(registry, "POST") == uploads
    hyper.text("rmi", name)
    done = hyper("pull", name)
    assert done.returncode == 0, done.stderr
    assert Client(hyper.host).inspect_image(name)["Id"] == image["Id"]
    hyper.text("rmi", name)


def test_push_says_what_is_wrong(hyper: Hyper, registry: RegistryServer) -> None:
    for name, reason in {
        "nothing:1": b"no such image: nothing:1",
        "busybox@sha256:" + "0" * 64: b"give a tag",
    }.items():
        done = hyper("push", name)
        assert done.returncode != 0 and reason in done.stderr, done.stderr
    hyper.text("tag", "busybox", "127.0.0.1:9/x:1")
    done = hyper("push", "127.0.0.1:9/x:1")
    assert b"connection refused" in done.stderr
    hyper.text("rmi", "127.0.0.1:9/x:1")


async def test_push_with_tokens(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    store = ImageStore(tmp_path / "images")
    make_image(tmp_path / "image.tar", [make_tar([folder("d"), Item("d/f", os.urandom(3 << 20))])])
    await store.load(tmp_path / "image.tar")
    with RegistryServer(tmp_path_factory.mktemp("plain")) as registry:
        async with TokenFront(registry.port, USER, PASSWORD) as front:
            name = f"{front.host}/a/b:1"
            await store.tag("test", name)
            with pytest.raises(HyperError, match="denied"):
                await store.push(name)
            lines: list[dict[str, object]] = []
            digest = await store.push(name, auth=Auth(USER, PASSWORD), progress=lines.append)
            assert "repository:a/b:pull,push" in front.scopes
            assert {"Tag": "1", "Digest": digest}.items() <= lines[-1]["aux"].items()  # type: ignore[attr-defined]
            assert any(line.get("status") == "Pushing" for line in lines)
            await store.log_in(front.host, Auth(USER, PASSWORD))
            with pytest.raises(HyperError, match="denied for user someone"):
                await store.log_in(f"http://{front.host}/v1/", Auth(USER, "wrong"))
        manifest = manifest_of(f"{registry.host}/a/b:1")
        assert manifest["layers"][0]["mediaType"].endswith("tar.gzip")
    store.close()


def test_save_and_load(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    make_image(tmp_path / "two.tar", [make_tar([Item("a", b"1")]), make_tar([Item("b", b"2")])])
    hyper.text("load", "-qi", str(tmp_path / "two.tar"))
    hyper.text("tag", "test", "test:other")
    client = Client(hyper.host)
    ids = {name: client.inspect_image(name)["Id"] for name in ("busybox", "test")}
    saved = tmp_path / "saved.tar"
    hyper.text("save", "-o", str(saved), "busybox:latest", "test")
    with tarfile.open(saved) as tar:
        listed = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert [item["RepoTags"] for item in listed] == [
        ["busybox:latest"],
        ["test:latest", "test:other"],
    ]
    config = config_of(f"docker-archive:{saved}:busybox:latest")
    layout = tmp_path / "layout.tar"
    hyper.text("save", "-f", "oci", "-r", "busybox:latest=blue", "-o", str(layout), "busybox")
    assert json.loads(config_of(f"oci-archive:{layout}:blue")) == json.loads(config)
    done = hyper("save", "busybox")
    for archive in (saved.read_bytes(), layout.read_bytes(), done.stdout):
        for name in ("test", "test:other", "busybox"):
            hyper("rmi", "-f", name)
        hyper.text("load", "-q", input=archive)
        assert client.inspect_image("busybox")["Id"] == ids["busybox"]
    hyper.text("load", "-qi", str(saved))
    assert client.inspect_image("test:other")["Id"] == ids["test"]
    terminal = hyper.on_terminal("save", "busybox")
    terminal.expect(b"not for a terminal")
    assert terminal.end() == 125
    terminal.close()
    assert b"no such image" in hyper("save", "nothing").stderr
