"""Pulling from a real registry: what comes, what it says, what it leaves when it fails."""

import asyncio
import base64
import contextlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import HyperError, NoSpace, NotFound
from hypercontainer.images import AccessDenied, Auth, BadImage, ImageStore, RegistryError, busybox
from hypercontainer.images.manifest import digest_of
from tests.cutproxy import CutProxy
from tests.disks import small_disk
from tests.images import list_entry, make_image, manifest_of, put_list, raw_manifest
from tests.registry import PASSWORD, USER, RegistryServer, make_certificates
from tests.tars import Item, folder, hardlink, make_tar
from tests.tokenserver import TokenFront

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path / "images")
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _no_docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def image(tmp_path: Path, *layers: bytes, **more: Any) -> str:
    return make_image(tmp_path / f"image-{len(list(tmp_path.iterdir()))}.tar", layers, **more)


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def leftovers(store_root: Path) -> list[str]:
    """All that a store without images has, but for its own files."""
    return [name for name in files_of(store_root) if name not in ("lock", "images.json")]


async def refused(store: ImageStore, name: str, kind: type[HyperError], **keys: Any) -> str:
    """The one-line message that a pull ends with."""
    with pytest.raises(kind) as caught:
        await store.pull(name, **keys)
    assert "\n" not in caught.value.message
    return caught.value.message


async def test_pull_list_and_remove(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    archive = tmp_path / "busybox.tar"
    image_id = busybox.build(archive)
    name = registry.push(f"oci-archive:{archive}", "busybox")
    seen: list[dict[str, Any]] = []
    pulled = await store.pull(name, progress=seen.append)
    assert pulled.id == image_id
    assert pulled.repo_tags == [f"{name}:latest"]
    assert pulled.config["config"]["Cmd"] == ["sh"]
    assert [layer.fstype for layer in pulled.layers] == ["squashfs"]
    assert pulled.layers[0].path.stat().st_size == pulled.layers[0].size == pulled.size
    assert store.list() == [pulled]
    assert store.get(pulled.repo_digests[0]) == store.get(image_id[7:15]) == pulled
    texts = [line["status"] for line in seen]
    order = ["Pulling from busybox", "Pulling fs layer", "Downloading", "Download complete"]
    places = [texts.index(text) for text in [*order, "Extracting", "Pull complete"]]
    assert places == sorted(places)
    assert texts[-1] == f"Status: Downloaded newer image for {name}:latest"
    json.dumps(seen)
    seen.clear()
    assert await store.pull(name, progress=seen.append) == pulled
    assert "Already exists" in [line["status"] for line in seen]
    assert seen[-1]["status"] == f"Status: Image is up to date for {name}:latest"
    removed = await store.remove(name)
    assert removed == [
        {"untagged": f"{name}:latest"},
        {"untagged": pulled.repo_digests[0]},
        {"deleted": image_id},
        {"deleted": pulled.layers[0].diff_id},
    ]
    assert not leftovers(tmp_path / "images")


@pytest.mark.parametrize(("form", "kind"), [("gzip", "oci"), ("gzip", "v2s2"), ("zstd", "oci")])
async def test_layer_and_manifest_forms(
    form: str, kind: str, registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    source = image(tmp_path, make_tar([Item(form + kind, noise(100_000))]))
    options = ["--dest-compress-format", form, "--format", kind]
    name = registry.push(source, f"{form}-{kind}", *options)
    layer = manifest_of(name)["layers"][0]
    start = registry.blob(layer["digest"]).read_bytes()[:4]
    assert start.startswith(b"\x1f\x8b" if form == "gzip" else b"\x28\xb5\x2f\xfd")
    assert len((await store.pull(name)).layers) == 1


async def test_a_manifest_list_gives_our_platform(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    ids, entries = {}, []
    for architecture in ("arm64", "amd64", "s390x"):
        tar = make_tar([Item("arch", architecture.encode())])
        source = image(tmp_path, tar, architecture=architecture)
        name = registry.push(source, "multi:" + architecture, "--format", "v2s2")
        ids[architecture] = manifest_of(name)["config"]["digest"]
        entries.append(list_entry(name, architecture))
    name = put_list(registry.host, "multi", "all", entries)
    assert (await store.pull(name)).id == ids["amd64"]
    assert (await store.pull(name, platform="linux/arm64")).id == ids["arm64"]
    assert store.get(name).id == ids["arm64"], "the name means what was pulled last"
    assert store.get(ids["amd64"]).config["architecture"] == "amd64"
    others = [e for e in entries if e["platform"] != entries[1]["platform"]]
    put_list(registry.host, "multi", "others", others)
    message = await refused(store, f"{registry.host}/multi:others", NotFound)
    assert message == (
        f"no image for linux/amd64 in {registry.host}/multi:others:"
        " it offers linux/arm64,linux/s390x"
    )
    message = await refused(store, f"{registry.host}/multi:arm64", NotFound)
    assert message.endswith("/multi:arm64: it offers linux/arm64")


async def test_sixty_layers_shared_by_two_images(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    layers = [make_tar([Item(f"f{i}", b"%d" % i)]) for i in range(60)]
    one = registry.push(image(tmp_path, *layers), "many:one")
    two = registry.push(image(tmp_path, *layers, make_tar([Item("more")])), "many:two")
    assert len((await store.pull(one)).layers) == 60
    seen: list[dict[str, Any]] = []
    assert len((await store.pull(two, progress=seen.append)).layers) == 61
    assert [line["status"] for line in seen].count("Already exists") == 60
    assert [line["status"] for line in seen].count("Pull complete") == 1
    await store.remove(one)
    assert len(list((tmp_path / "images" / "layers").glob("*.sqfs"))) == 61
    await store.remove(two)
    assert not leftovers(tmp_path / "images")


async def test_a_broken_connection_is_taken_up_where_it_broke(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    size = 8_000_000
    registry.push(image(tmp_path, make_tar([Item("f", noise(size, 1))])), "large")
    async with CutProxy(registry.port, cuts=3, cut_at=2_000_000) as proxy:
        await store.pull(f"{proxy.host}/large")
        assert len(proxy.ranges) == 3
        assert proxy.ranges == sorted(set(proxy.ranges))
        assert proxy.ranges[0] > 1_000_000
        assert proxy.passed < size * 1.5


def partial_size(root: Path) -> int:
    """Bytes of unfinished downloads."""
    return sum((root / name).stat().st_size for name in leftovers(root) if ".partial" in name)


async def test_a_pull_that_failed_goes_on_in_another_process(
    registry: RegistryServer, tmp_path: Path
) -> None:
    size = 8_000_000
    registry.push(image(tmp_path, make_tar([Item("f", noise(size, 2))])), "larger")
    root = tmp_path / "images"
    async with CutProxy(registry.port, cuts=1, cut_at=3_000_000) as proxy:
        with contextlib.closing(ImageStore(root)) as store:
            cut = asyncio.create_task(store.pull(f"{proxy.host}/larger"))
            await asyncio.wait_for(proxy.was_cut.wait(), 20)
            async with asyncio.timeout(20):
                # What has passed the proxy is not yet what was read and written.
                while partial_size(root) <= 1_000_000:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            cut.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cut
        partial = [name for name in leftovers(root) if name.endswith(".partial")]
        assert len(partial) == 1
        before = (root / partial[0]).stat().st_size
        assert before > 1_000_000
        passed = proxy.passed
        with contextlib.closing(ImageStore(root)) as store:
            await store.pull(f"{proxy.host}/larger")
            assert before in proxy.ranges
            assert proxy.passed - passed < size - before + 100_000
            await store.remove(f"{proxy.host}/larger")
        assert not leftovers(root)


async def test_a_bad_partial_download_is_fetched_anew(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    name = registry.push(image(tmp_path, make_tar([Item("f", noise(500_000, 3))])), "anew")
    digest = manifest_of(name)["layers"][0]["digest"].partition(":")[2]
    (tmp_path / "images" / "blobs" / f"{digest}.partial").write_bytes(b"bad" * 1000)
    assert (await store.pull(name)).layers


async def test_a_registry_that_fails_for_good(
    registry: RegistryServer, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.images.download.ATTEMPTS", 2)
    registry.push(image(tmp_path, make_tar([Item("f", noise(3_000_000, 4))])), "failing")
    async with CutProxy(registry.port, cuts=10**6, cut_at=100) as proxy:
        message = await refused(store, f"{proxy.host}/failing", RegistryError)
        assert "registry 127.0.0.1" in message


async def test_pulls_at_the_same_time_do_the_work_once(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    base = make_tar([Item("f", noise(2_000_000, 5))])
    registry.push(image(tmp_path, base), "same:a")
    registry.push(image(tmp_path, base, make_tar([Item("g")])), "same:b")
    async with CutProxy(registry.port) as proxy:
        names = [f"{proxy.host}/same:{tag}" for tag in "aaaabbbb"]
        told: list[list[dict[str, Any]]] = [[] for _ in names]
        images = await asyncio.gather(
            *(
                store.pull(name, progress=lines.append)
                for name, lines in zip(names, told, strict=True)
            )
        )
        assert len({one.id for one in images}) == 2
        assert all(lines for lines in told)
        assert proxy.passed < 2_000_000 * 1.5


async def test_one_of_two_pullers_may_go_away(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    base = make_tar([Item("f", noise(4_000_000, 6))])
    registry.push(image(tmp_path, base), "leave:a")
    registry.push(image(tmp_path, base, make_tar([Item("h")])), "leave:b")
    async with CutProxy(registry.port) as proxy:
        first = asyncio.create_task(store.pull(f"{proxy.host}/leave:a"))
        await asyncio.wait_for(proxy.until_asked("/blobs/", 2), 20)
        second = asyncio.create_task(store.pull(f"{proxy.host}/leave:b"))
        third = asyncio.create_task(store.pull(f"{proxy.host}/leave:a"))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        assert len((await second).layers) == 2
        assert len((await third).layers) == 1


async def test_an_unknown_image(registry: RegistryServer, store: ImageStore) -> None:
    message = await refused(store, f"{registry.host}/nothing:here", NotFound)
    assert message == (
        f"no such image: {registry.host}/nothing:here: registry {registry.host} does not have it:"
        " check its name and tag"
    )


async def test_a_registry_that_is_down(store: ImageStore) -> None:
    message = await refused(store, "127.0.0.1:9/x", RegistryError)
    assert message.startswith("cannot reach registry 127.0.0.1:9: connection refused: ")
    message = await refused(store, "no-such-host.invalid/x", RegistryError)
    assert message.startswith("cannot reach registry no-such-host.invalid: no such host: ")


async def test_a_registry_that_never_answers(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.images.registry.CONNECT_TIMEOUT", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        message = await refused(store, f"{host}/x", RegistryError)
        assert message == f"cannot reach registry {host}: no answer within the time limit"


async def test_what_is_no_registry(store: ImageStore) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        message = await refused(store, f"{host}/x", RegistryError)
        assert "is no image registry" in message


@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
async def test_wrong_content(
    part: str, registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    tar = make_tar([Item("f", noise(200_000, 7 + len(part)))])
    name = registry.push(image(tmp_path, tar, author=part), f"wrong-{part}")
    data = raw_manifest(name)
    digests = {
        "layer": json.loads(data)["layers"][0]["digest"],
        "config": json.loads(data)["config"]["digest"],
        "manifest": digest_of(data),
    }
    blob = registry.blob(digests[part])
    content = bytearray(blob.read_bytes())
    content[-2] ^= 0x01
    blob.write_bytes(content)
    reference = f"{registry.host}/wrong-{part}@{digests['manifest']}"
    message = await refused(store, reference, HyperError)
    assert "does not match" in message or part == "manifest"
    assert not leftovers(tmp_path / "images")


async def test_a_truncated_layer(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    """Its digest is right: the tar within is what ends too early."""
    tar = make_tar([Item("some/file", noise(50_000, 11))])[:20_000]
    name = registry.push(image(tmp_path, tar), "truncated")
    message = await refused(store, name, BadImage)
    assert message.endswith("is truncated: it ends within 'some/file'")
    assert not leftovers(tmp_path / "images")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item("../../etc/cron.d/x", b"x"), "'../../etc/cron.d/x' leads out of the image"),
        (hardlink("h", "../../etc/shadow"), "'h' leads out of the image"),
        (Item("dev/sda", kind=b"4", device=(8, 0)), "'dev/sda' is a block device (8:0)"),
        (Item("dev/mem", kind=b"3", device=(1, 1)), "'dev/mem' is a character device (1:1)"),
    ],
)
async def test_hostile_layers(
    item: Item, reason: str, registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    name = registry.push(image(tmp_path, make_tar([folder("d"), item])), "hostile")
    message = await refused(store, name, BadImage)
    assert message.endswith(f"is refused: {reason}")
    assert message.startswith("layer ")
    assert not leftovers(tmp_path / "images")


async def test_an_absolute_name(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    tar = bytearray(make_tar([Item("xetc/passwd", b"x")]))
    tar[0:1] = b"/"
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    name = registry.push(image(tmp_path, bytes(tar)), "absolute")
    message = await refused(store, name, BadImage)
    assert message.endswith("is refused: the name '/etc/passwd' is absolute")


async def test_a_full_disk(registry: RegistryServer, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    name = registry.push(image(tmp_path, make_tar([Item("f", noise(3_000_000, 12))])), "full")
    big = registry.push(image(tmp_path, make_tar([Item("f", noise(9_000_000, 13))])), "fuller")
    with (
        small_disk(tmp_path / "disk", 5 << 20) as disk,
        contextlib.closing(ImageStore(disk / "images")) as store,
    ):
        message = await refused(store, name, NoSpace)
        assert message.startswith(f"no space left on {disk}")
        assert "needs more than" in message
        assert not leftovers(disk / "images")
        message = await refused(store, big, NoSpace)
        assert f"no space left on {disk}/images: {big}:latest needs more than 9" in message
        assert not leftovers(disk / "images")


async def test_a_user_is_wanted(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RegistryServer(tmp_path / "registry", auth=True) as server:
        name = server.push(image(tmp_path, make_tar([Item("f")])), "private/app")
        message = await refused(store, name, AccessDenied)
        assert message == (
            f"access to {server.host}/private/app denied: registry {server.host} wants a user, or"
            f" does not have it: put credentials for {server.host} into ~/.docker/config.json"
        )
        message = await refused(store, name, AccessDenied, auth=Auth(USER, "wrong"))
        assert f"denied for user {USER}" in message
        assert "wrong" not in message
        assert (await store.pull(name, auth=Auth(USER, PASSWORD))).layers
        await store.remove(name)
        config = tmp_path / "docker" / "config.json"
        config.parent.mkdir()
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config.write_text(json.dumps({"auths": {server.host: {"auth": pair}}}))
        assert (await store.pull(name)).layers
        await store.remove(name)
        helper = tmp_path / "docker-credential-test"
        answer = json.dumps({"ServerURL": server.host, "Username": USER, "Secret": PASSWORD})
        helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        config.write_text(json.dumps({"credHelpers": {server.host: "test"}}))
        assert (await store.pull(name)).layers


async def test_certificates(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    trusted = tmp_path / "certs.d"
    with RegistryServer(tmp_path / "registry", tls=made) as server:
        name = server.push(image(tmp_path, make_tar([Item("f")])), "secure")
        with contextlib.closing(ImageStore(tmp_path / "a")) as store:
            assert (await store.pull(name)).layers  # loopback: no one need vouch for it
        folder = trusted / server.host
        folder.mkdir(parents=True)
        shutil.copy(make_certificates(tmp_path / "other").authority, folder / "ca.crt")
        with contextlib.closing(ImageStore(tmp_path / "b", certificates=[trusted])) as store:
            message = await refused(store, name, RegistryError)
            assert message.startswith(f"can't trust registry {server.host}: its certificate: ")
            shutil.copy(made.authority, folder / "ca.crt")
            assert (await store.pull(name)).layers


async def test_a_mirror_stands_in_for_docker_io(registry: RegistryServer, tmp_path: Path) -> None:
    registry.push(image(tmp_path, make_tar([Item("f")])), "library/mirrored")
    dead = "http://127.0.0.1:9"
    mirrors = [dead, f"http://{registry.host}"]
    with contextlib.closing(ImageStore(tmp_path / "images", mirrors=mirrors)) as store:
        seen: list[dict[str, Any]] = []
        pulled = await store.pull("mirrored", progress=seen.append)
        assert pulled.repo_tags == ["mirrored:latest"]
        assert any("mirror skipped" in line["status"] for line in seen)


async def test_tokens(registry: RegistryServer, store: ImageStore, tmp_path: Path) -> None:
    """A registry that sends us for a token first, as the large ones do; docker-registry behind."""
    registry.push(image(tmp_path, make_tar([Item("f")])), "token/app")
    async with TokenFront(registry.port, USER, PASSWORD) as front:
        name = f"{front.host}/token/app"
        assert (await store.pull(name, auth=Auth(USER, PASSWORD))).layers
        assert front.scopes == ["repository:token/app:pull"]
        message = await refused(store, name, AccessDenied, auth=Auth(USER, "no"))
        assert f"denied for user {USER}" in message
        await refused(store, name, AccessDenied)


PULL = """
import asyncio, sys
from pathlib import Path
from hypercontainer.images import ImageStore
async def main():
    store = ImageStore(Path(sys.argv[1]))
    print("open", flush=True)
    await store.pull(sys.argv[2], progress=lambda line: print(line["status"], flush=True))
    print("pulled", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["open", "Downloading", "Extracting", "Pull complete", "Digest"])
async def test_a_killed_pull_leaves_a_good_store(
    moment: str, registry: RegistryServer, tmp_path: Path
) -> None:
    layers = [make_tar([Item("f", noise(3_000_000, 20 + i))]) for i in range(3)]
    name = registry.push(image(tmp_path, *layers), "killed")
    root = tmp_path / "images"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PULL, str(root), name, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    async with asyncio.timeout(30):
        while line := await child.stdout.readline():
            if line.decode().startswith(moment):
                break
    child.send_signal(signal.SIGKILL)
    await child.wait()
    with contextlib.closing(ImageStore(root)) as store:
        assert not list((root / "tmp").iterdir())
        assert len(store.list()) in (0, 1)
        assert len((await store.pull(name)).layers) == 3
        await store.remove(name)
    assert not leftovers(root)


async def test_the_event_loop_stays_free(
    registry: RegistryServer, store: ImageStore, tmp_path: Path
) -> None:
    layers = [make_tar([Item("f", noise(12_000_000, 30 + i))]) for i in range(3)]
    name = registry.push(image(tmp_path, *layers), "free")
    loop = asyncio.get_running_loop()
    gaps = []

    async def watch() -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(0.005)
            now = loop.time()
            gaps.append(now - last)
            last = now

    watcher = asyncio.create_task(watch())
    await store.pull(name)
    watcher.cancel()
    assert max(gaps) < 0.5
