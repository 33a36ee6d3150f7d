"""Loading archives: what skopeo and Docker write, from files and streams, and hostile ones."""

import gzip
import io
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.images import BadImage, ImageStore, busybox
from hypercontainer.images.manifest import digest_of
from tests.images import make_image
from tests.tars import Item, folder, hardlink, make_tar, symlink

LAYERS = [make_tar([Item("a", b"1")]), make_tar([Item("b", b"2" * 100_000), Item(".wh.a")])]
NAME = "docker.io/library/test:latest"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path / "images")
    yield store
    store.close()


def convert(source: str, target: str) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "-q", source, target]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    source = make_image(folder / "oci-plain.tar", LAYERS, NAME)
    convert(source, f"oci-archive:{folder}/oci-skopeo.tar:test:latest")
    convert(source, f"docker-archive:{folder}/docker-skopeo.tar:test:latest")
    old_docker(folder / "docker-old.tar")
    new_docker(folder / "oci-plain.tar", folder / "docker-new.tar")
    plain = (folder / "docker-skopeo.tar").read_bytes()
    (folder / "gzip.tar.gz").write_bytes(gzip.compress(plain))
    (folder / "zstd.tar.zst").write_bytes(zstandard.compress(plain))
    return {path.name.partition(".")[0]: path for path in folder.iterdir()}


def config_of(layers: list[bytes]) -> bytes:
    diff_ids = [digest_of(layer) for layer in layers]
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()


def old_docker(path: Path) -> None:
    """As `docker save` wrote until version 24: folders by layer, a layer again as a link."""
    config = config_of([LAYERS[0], LAYERS[1], LAYERS[0]])
    name = digest_of(config)[7:] + ".json"
    layers = ["1" * 64, "2" * 64, "3" * 64]
    manifest = [
        {"Config": name, "RepoTags": ["test:latest"], "Layers": [f"{x}/layer.tar" for x in layers]}
    ]
    items = [
        folder(f"{layers[0]}/"),
        Item(f"{layers[0]}/VERSION", b"1.0"),
        Item(f"{layers[0]}/layer.tar", LAYERS[0]),
        Item(f"{layers[1]}/layer.tar", LAYERS[1]),
        symlink(f"{layers[2]}/layer.tar", f"../{layers[0]}/layer.tar"),
        Item(name, config),
        Item("manifest.json", json.dumps(manifest).encode()),
        Item("repositories", b"{}"),
    ]
    path.write_bytes(make_tar(items, form=1))


def new_docker(oci: Path, path: Path) -> None:
    """As `docker save` has written since 25: an OCI layout that has a manifest.json as well."""
    import tarfile

    with tarfile.open(oci) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    config = next(
        name for name, data in files.items() if name.startswith("blobs") and b'"rootfs"' in data
    )
    blobs = [f"blobs/sha256/{digest_of(layer)[7:]}" for layer in LAYERS]
    manifest = [{"Config": config, "RepoTags": ["test:latest"], "Layers": blobs}]
    files["manifest.json"] = json.dumps(manifest).encode()
    path.write_bytes(make_tar([folder("blobs/"), *(Item(n, d) for n, d in files.items())]))


KINDS = ["oci-plain", "oci-skopeo", "docker-skopeo", "docker-old", "docker-new", "gzip", "zstd"]


@pytest.mark.parametrize("kind", KINDS)
async def test_kinds_of_archives(
    kind: str, archives: dict[str, Path], store: ImageStore, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []
    (image,) = await store.load(archives[kind], seen.append)
    assert image.repo_tags == ["test:latest"]
    assert len(image.layers) == 2
    assert seen[-1] == {"stream": "Loaded image: test:latest\n"}
    assert not list((tmp_path / "images" / "tmp").iterdir())
    before = [layer.path.stat().st_ino for layer in image.layers]
    (again,) = await store.load(archives[kind])
    assert [layer.path.stat().st_ino for layer in again.layers] == before


@pytest.mark.parametrize("kind", ["docker-skopeo", "gzip"])
async def test_from_streams(
    kind: str, archives: dict[str, Path], store: ImageStore, tmp_path: Path
) -> None:
    data = archives[kind].read_bytes()
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, "rb", buffering=0) as pipe:
        (image,) = await store.load(pipe)
    writer.join()
    assert image.repo_tags == ["test:latest"]

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    assert await store.load(chunks()) == [image]
    assert await store.load(io.BytesIO(data)) == [image]
    assert not list((tmp_path / "images" / "tmp").iterdir())


async def test_several_images_in_one(store: ImageStore, tmp_path: Path) -> None:
    configs = [config_of([layer]) for layer in LAYERS]
    manifest = [
        {"Config": f"c{i}", "RepoTags": [f"a:{i}", f"b:{i}"], "Layers": [f"l{i}"]} for i in (0, 1)
    ]
    items = [Item("manifest.json", json.dumps(manifest).encode())]
    items += [Item(f"c{i}", configs[i]) for i in (0, 1)]
    items += [Item("l0", LAYERS[0]), Item("l1", gzip.compress(LAYERS[1]))]
    path = tmp_path / "archive.tar"
    path.write_bytes(make_tar(items))
    loaded = await store.load(path)
    assert [image.repo_tags for image in loaded] == [["a:0", "b:0"], ["a:1", "b:1"]]


async def test_busybox_is_reproducible(store: ImageStore, tmp_path: Path) -> None:
    busybox.build(tmp_path / "one.tar")
    busybox.build(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    (image,) = await store.load(tmp_path / "one.tar")
    assert image.repo_tags == ["busybox:latest"]


def manifest_json(layers: object = None, config: str = "c") -> bytes:
    return json.dumps(
        [{"Config": config, "RepoTags": None, "Layers": ["l"] if layers is None else layers}]
    ).encode()


GOOD = [Item("c", config_of(LAYERS[:1])), Item("l", LAYERS[0])]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "neither manifest.json nor index.json"),
        ([Item("x", b"1")], "neither manifest.json nor index.json"),
        ([Item("manifest.json", b"{")], "manifest.json is not JSON"),
        ([Item("manifest.json", b"{}")], "bad manifest.json"),
        ([Item("manifest.json", b"[{}]")], "bad manifest.json"),
        ([Item("manifest.json", b"[]")], "holds no image"),
        ([Item("manifest.json", manifest_json()), GOOD[0]], "has no file 'l'"),
        ([Item("manifest.json", manifest_json()), GOOD[1]], "has no file 'c'"),
        ([Item("manifest.json", manifest_json([])), *GOOD], "0 layers, its configuration 1"),
        ([Item("manifest.json", manifest_json(config="../../etc/passwd"))], "leads out"),
        ([Item("manifest.json", manifest_json(config="/etc/passwd"))], "is absolute"),
        ([Item("manifest.json", manifest_json()), GOOD[0], symlink("l", "/etc/passwd")],
         "has no file 'l'"),
        ([Item("manifest.json", manifest_json()), GOOD[0], symlink("l", "l")], "has no file 'l'"),
        ([Item("manifest.json", manifest_json()), GOOD[0], symlink("l", "../../x")], "leads out"),
        ([Item("manifest.json", manifest_json()), GOOD[0], hardlink("l", "zz")], "has no file"),
        ([Item("../x", b"1")], "leads out"),
        ([Item("dev", kind=b"3", device=(1, 1))], "'dev' is no file or directory"),
        ([Item("manifest.json", manifest_json()), GOOD[0], Item("l", LAYERS[1])],
         "does not match its digest"),
        ([Item("manifest.json", bytes(5 << 20))], "larger than"),
        ([Item("index.json", b"{}")], "bad index.json"),
        ([Item("index.json", b'{"schemaVersion":2,"manifests":[{}]}')], "bad digest"),
    ],
)  # fmt: skip
async def test_bad_archives(
    items: list[Item], reason: str, store: ImageStore, tmp_path: Path
) -> None:
    with pytest.raises(BadImage) as caught:
        await store.load(io.BytesIO(make_tar(items)))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    left = [p for p in (tmp_path / "images").rglob("*") if p.is_file() and p.name != "lock"]
    assert left == []


async def test_truncated_archives(archives: dict[str, Path], store: ImageStore) -> None:
    for kind in ("docker-skopeo", "gzip", "zstd", "oci-plain"):
        data = archives[kind].read_bytes()
        with pytest.raises(BadImage, match=r"truncated|damaged"):
            await store.load(io.BytesIO(data[: len(data) * 2 // 3]))
    with pytest.raises(BadImage):
        await store.load(io.BytesIO(b"this is no tar" * 100))
    with pytest.raises(BadImage):
        await store.load(io.BytesIO(b""))


async def test_another_architecture(store: ImageStore, tmp_path: Path) -> None:
    make_image(tmp_path / "other.tar", LAYERS, NAME, architecture="s390x")
    with pytest.raises(NotFound) as caught:
        await store.load(tmp_path / "other.tar")
    assert caught.value.message == "no image for linux/amd64 in test:latest: it offers linux/s390x"
    make_image(tmp_path / "arm.tar", LAYERS, NAME, architecture="arm64")
    (image,) = await store.load(tmp_path / "arm.tar")
    assert image.config["architecture"] == "arm64"


async def test_no_such_file(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        await store.load(tmp_path / "none.tar")
    with pytest.raises(HyperError, match=r"can't read .*directory"):
        await store.load(tmp_path)
