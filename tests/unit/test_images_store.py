"""The store without a registry: names, removal, the lock, what a crash leaves."""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict, HyperError, NotFound
from hypercontainer.images import Image, ImageStore
from tests.images import make_image
from tests.tars import Item, make_tar


def files_of(root: Path) -> list[str]:
    """All files below a folder, relative to it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    store = ImageStore(tmp_path / "images")
    yield store
    store.close()


async def load(store: ImageStore, tmp_path: Path, name: str, *layers: bytes) -> Image:
    archive = tmp_path / "archive.tar"
    make_image(archive, layers or [make_tar([Item(name)])], name)
    return (await store.load(archive))[0]


async def test_names_and_ids_find_an_image(store: ImageStore, tmp_path: Path) -> None:
    image = await load(store, tmp_path, "docker.io/library/a:1")
    for name in ("a:1", "docker.io/library/a:1", image.id, image.id[7:], image.id[7:10]):
        assert store.get(name) == image
    for name in ("a", "b:1", "sha256:" + "0" * 64, "0" * 64):
        with pytest.raises(NotFound) as caught:
            store.get(name)
        assert caught.value.message == f"no such image: {name}: pull it with `hyper pull {name}`"
    with pytest.raises(BadRequest, match="lower case"):
        store.get("Bad:1")
    await store.tag("a:1", "host.example/b")
    assert store.get("host.example/b").repo_tags == ["a:1", "host.example/b:latest"]
    with pytest.raises(BadRequest):
        await store.tag("a:1", "a@sha256:" + "0" * 64)


async def test_an_ambiguous_begin_of_an_id(store: ImageStore, tmp_path: Path) -> None:
    digits: set[str] = set()
    for number in range(17):
        image = await load(store, tmp_path, f"docker.io/library/n:{number}")
        if image.id[7] in digits:
            with pytest.raises(BadRequest, match="ambiguous"):
                store.get(image.id[7])
            return
        digits.add(image.id[7])
    raise AssertionError


async def test_removal_frees_what_nothing_uses(store: ImageStore, tmp_path: Path) -> None:
    shared, own = make_tar([Item("s")]), make_tar([Item("o")])
    one = await load(store, tmp_path, "docker.io/library/one:1", shared)
    two = await load(store, tmp_path, "docker.io/library/two:1", shared, own)
    assert await store.remove("two:1") == [
        {"untagged": "two:1"},
        {"deleted": two.id},
        {"deleted": two.layers[1].diff_id},
    ]
    assert one.layers[0].path.exists()
    await store.tag("one:1", "again")
    assert await store.remove("again") == [{"untagged": "again:latest"}]
    await store.tag("one:1", "again")
    with pytest.raises(Conflict, match="has several names \\(one:1, again:latest\\)"):
        await store.remove(one.id)
    removed = await store.remove(one.id, force=True)
    assert removed[-2:] == [{"deleted": one.id}, {"deleted": one.layers[0].diff_id}]
    assert files_of(tmp_path / "images") == ["images.json", "lock"]
    with pytest.raises(NotFound):
        await store.remove("one:1")


async def test_an_image_in_use_stays(store: ImageStore, tmp_path: Path) -> None:
    image = await load(store, tmp_path, "docker.io/library/a:1")
    with pytest.raises(Conflict, match="image a:1 is used by a container"):
        await store.remove("a:1", in_use={image.id: "a container"}.__getitem__)
    removed = await store.remove("a:1", force=True, in_use=lambda _: "a container")
    assert removed == [{"untagged": "a:1"}]
    assert store.get(image.id).repo_tags == []
    assert image.layers[0].path.exists()
    await store.remove(image.id)
    assert store.list() == []


async def test_a_name_moves_to_a_new_image(store: ImageStore, tmp_path: Path) -> None:
    old = await load(store, tmp_path, "docker.io/library/a:1", make_tar([Item("1")]))
    new = await load(store, tmp_path, "docker.io/library/a:1", make_tar([Item("2")]))
    assert store.get("a:1") == new
    assert store.get(old.id).repo_tags == []


async def test_layers_that_change_nothing_are_not_stacked(
    store: ImageStore, tmp_path: Path
) -> None:
    a, b, empty = make_tar([Item("a")]), make_tar([Item("b")]), make_tar([])
    opaque = make_tar([Item(".wh..wh..opq"), Item("c")])
    gone = make_tar([Item(".wh.a")])
    twice = await load(store, tmp_path, "docker.io/library/a:1", a, empty, b, empty, a)
    names = {layer.diff_id: layer for layer in twice.layers}
    assert len(names) == len(twice.layers) == 2
    assert [layer.diff_id for layer in twice.layers] == [
        twice.config["rootfs"]["diff_ids"][i] for i in (2, 4)
    ]
    hidden = await load(store, tmp_path, "docker.io/library/a:2", a, b, opaque, gone)
    assert [layer.diff_id for layer in hidden.layers] == hidden.config["rootfs"]["diff_ids"][2:]
    nothing = await load(store, tmp_path, "docker.io/library/a:3", empty, empty)
    assert len(nothing.layers) == 1


async def test_images_outlive_the_process(tmp_path: Path) -> None:
    root = tmp_path / "images"
    with contextlib.closing(ImageStore(root)) as store:
        image = await load(store, tmp_path, "docker.io/library/a:1")
        with pytest.raises(Conflict) as caught:
            ImageStore(root)
        assert caught.value.message.startswith(
            f"the images in {root} are in use by process {os.getpid()}: "
        )
    with contextlib.closing(ImageStore(root)) as store:
        assert store.list() == [image]


def test_a_dead_owners_lock_is_waited_for(tmp_path: Path) -> None:
    """A program that the owner was starting when it was killed has its files for a moment."""
    root = tmp_path / "images"
    ImageStore(root).close()
    dead = subprocess.Popen(["true"])
    dead.wait(timeout=10)
    with open(root / "lock", "r+") as lock:
        lock.truncate()
        lock.write(f"{dead.pid} 1\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        heir = subprocess.Popen(["sleep", "0.4"], stdin=lock)
    try:
        ImageStore(root).close()
    finally:
        assert heir.wait(timeout=10) == 0


async def test_what_a_crash_leaves_is_cleaned(tmp_path: Path) -> None:
    root = tmp_path / "images"
    with contextlib.closing(ImageStore(root)) as store:
        image = await load(store, tmp_path, "docker.io/library/a:1")
    before = files_of(root)
    (root / "tmp" / "half.sqfs").write_bytes(b"x")
    (root / "tmp" / "folder").mkdir()
    (root / "layers" / ("1" * 64 + ".json")).write_text("{")
    (root / "configs" / ("2" * 64)).write_text("{}")
    old = root / "blobs" / "3.partial"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    unused = root / "layers" / ("4" * 64 + ".sqfs")
    unused.write_bytes(b"x")
    os.utime(unused, (time.time() - 48 * 3600,) * 2)
    (root / "blobs" / "5.partial").write_bytes(b"kept")
    with contextlib.closing(ImageStore(root)) as store:
        assert store.list() == [image]
    left = set(files_of(root)) - set(before)
    assert left == {"blobs/5.partial", "layers/" + "1" * 64 + ".json"}


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    root = tmp_path / "images"
    ImageStore(root).close()
    for text in ("{", json.dumps({"version": 99})):
        (root / "images.json").write_text(text)
        with pytest.raises(HyperError, match=str(root)):
            ImageStore(root)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match=r"can't use .*file"):
        ImageStore(tmp_path / "file")
