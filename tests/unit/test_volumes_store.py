"""Volumes on disk: made, found, filled, removed, and what a crash leaves of them."""

import asyncio
import struct
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict, NotFound, NotSupported
from hypercontainer.volumes import VolumeStore
from hypercontainer.volumes.diskimage import check_image


def make_disk(path: Path, size: int) -> None:
    with path.open("xb") as file:
        file.truncate(size)


def store_at(root: Path) -> VolumeStore:
    store = VolumeStore(root / "volumes", make_disk, 1 << 30)
    store.reconcile()
    return store


def test_made_and_found_again(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    made = store.create("a", labels={"x": "1"})
    disk = store.create("d", "disk", {"size": "32m"})
    anonymous = store.create()
    assert made.data.is_dir() and disk.image.stat().st_size == 32 << 20
    assert anonymous.anonymous and len(anonymous.name) == 64
    assert store.create("a") is made and store.create("d") is disk
    with pytest.raises(Conflict, match="other options"):
        store.create("d", "disk", {"size": "64m"})
    with pytest.raises(Conflict, match="other options"):
        store.create("a", "disk")
    again = store_at(tmp_path)
    assert again.get("a") == made and again.get("d") == disk
    assert [v.name for v in again.select({"label": ["x=1"]}, ())] == ["a"]
    assert [v.name for v in again.select({"driver": ["disk"]}, ())] == ["d"]
    assert [v.name for v in again.select({"dangling": ["false"]}, {"a"})] == ["a"]
    assert len(again.select({"dangling": ["1"]}, {"a"})) == 2
    with pytest.raises(BadRequest, match="unknown"):
        again.select({"colour": ["red"]}, ())


def test_bad_names_and_options(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for name in ("../x", ".x", "a/b", "", "x" * 300, "a b"):
        if name:
            with pytest.raises(BadRequest):
                store.create(name)
    with pytest.raises(NotSupported):
        store.create("a", "zfs")
    with pytest.raises(BadRequest):
        store.create("a", "disk", {"size": "1"})
    with pytest.raises(BadRequest, match="HOST:/PATH"):
        store.create("a", "local", {"type": "nfs", "device": "nothing"})
    nfs = store.create(
        "n", "local", {"type": "nfs", "device": ":/e", "o": "addr=10.1.1.1,soft"}
    ).nfs
    assert nfs is not None and (nfs.source, nfs.options) == ("10.1.1.1:/e", ("soft",))
    assert sorted(p.name for p in (tmp_path / "volumes").iterdir()) == ["n"]


def test_removed_and_pruned(tmp_path: Path) -> None:
    async def work() -> None:
        store = store_at(tmp_path)
        store.create("named")
        used = store.create().name
        unused = store.create()
        (unused.data / "f").write_bytes(b"x" * 10000)
        with pytest.raises(Conflict, match="in use by container c"):
            await store.remove("named", ["c"])
        with pytest.raises(NotFound):
            await store.remove("other")
        removed, size = await store.prune({used}, {}, everything=False)
        assert removed == [unused.name] and size >= 10000
        assert (await store.prune({used}, {}, everything=True))[0] == ["named"]
        await store.remove(used)
        assert list((tmp_path / "volumes").iterdir()) == []

    asyncio.run(work())


def test_first_content_is_whole_or_none(tmp_path: Path) -> None:
    async def work() -> None:
        store = store_at(tmp_path)
        data = store.create("a").data
        disk = store.create("d", "disk").image
        with pytest.raises(OSError, match="no"):
            async with store.filling(["a", "d"]):
                (data / "half").write_text("")
                disk.write_bytes(b"half")
                raise OSError("no")
        assert list(data.iterdir()) == [] and disk.stat().st_size == 1 << 30
        async with store.filling(["a", "d"]):
            (data / "whole").write_text("")
        with pytest.raises(OSError, match="no"):
            async with store.filling(["a", "d"]):
                raise OSError("no")
        assert (data / "whole").exists()

    asyncio.run(work())


def test_what_a_crash_leaves_is_cleared(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    data = store.create("a").data
    (data / "half").write_text("")
    (data.parent / "filling").touch()
    root = tmp_path / "volumes"
    (root / ".new-1/_data").mkdir(parents=True)
    (root / ".gone-1/_data").mkdir(parents=True)
    (root / "old/_data").mkdir(parents=True)
    again = store_at(tmp_path)
    again.empty_half_filled()
    assert list(again.get("a").data.iterdir()) == []
    assert again.get("old").driver == "local" and again.get("old").created
    assert sorted(p.name for p in root.iterdir()) == ["a", "old"]


def qcow2(**changes: int) -> bytes:
    fields = {"version": 3, "backing": 0, "size": 1 << 20, "crypt": 0, "features": 0, **changes}
    header = struct.pack(
        ">4sIQIIQI",
        *(b"QFI\xfb", fields["version"], fields["backing"], 0, 16, fields["size"], fields["crypt"]),
    )
    return header.ljust(72, b"\0") + struct.pack(">Q", fields["features"]) + bytes(24)


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (bytes(1024), "raw", ""),
        (qcow2(), "qcow2", ""),
        (bytes(1000), "raw", "no multiple of 512"),
        (b"", "raw", "no multiple of 512"),
        (qcow2().ljust(512, b"\0"), "raw", "give format qcow2"),
        (bytes(1024), "qcow2", "no qcow2"),
        (b"QFI\xfb", "qcow2", "no qcow2"),
        (qcow2(backing=104), "qcow2", "backing file"),
        (qcow2(features=4), "qcow2", "another file"),
        (qcow2(features=2), "qcow2", "corrupt"),
        (qcow2(crypt=1), "qcow2", "encrypted"),
        (qcow2(version=9), "qcow2", "version 9"),
        (qcow2(size=100), "qcow2", "no multiple"),
    ],
)
def test_disk_images(tmp_path: Path, content: bytes, kind: str, says: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    if not says:
        check_image(path, kind, "here")
        return
    with pytest.raises(BadRequest, match=says):
        check_image(path, kind, "here")


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_image(tmp_path / "nothing", "raw", "here")
    for path in ("/dev/null", tmp_path):
        with pytest.raises(BadRequest):
            check_image(Path(path), "raw", "here")
