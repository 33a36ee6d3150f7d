"""Layers become disk images by the real sqfstar, and come back from them by unsquashfs."""

import gzip
import hashlib
import io
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest
import zstandard

from hypercontainer.errors import NoSpace, NotSupported
from hypercontainer.images.failures import BadImage
from hypercontainer.images.squash import Cancelled, Conversion, Converted
from tests.disks import small_disk
from tests.tars import Item, Seen, folder, hardlink, look_into, make_tar, symlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looking into images needs root")


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def conversion(blob: bytes, target: Path, diff_id: str) -> Conversion:
    return Conversion(lambda: io.BytesIO(blob), target, "layer x", diff_id)


def convert(tmp_path: Path, tar: bytes, blob: bytes | None = None) -> dict[str, Seen]:
    target = tmp_path / "layer.sqfs"
    made = conversion(tar if blob is None else blob, target, sha256(tar)).run()
    assert made.tar_size == len(tar)
    assert made.size == target.stat().st_size
    return look_into(target, tmp_path / "seen")


def test_everything_a_layer_can_hold(tmp_path: Path) -> None:
    capability = "\x01\x00\x00\x02\x00\x04\x00\x00" + "\x00" * 12
    seen = convert(
        tmp_path,
        make_tar(
            [
                folder("./", 0o555),
                Item("d/f", b"hello", mode=0o4755, owner=1000, mtime=1),
                hardlink("d/h", "d/f"),
                hardlink("h2", "./d/h"),
                symlink("d/l", "../f"),
                hardlink("d/hl", "d/l"),
                Item("d/fifo", kind=b"6", mode=0o600),
                Item("d/null", kind=b"3", device=(1, 3), mode=0o666),
                folder("d", 0o1777, owner=70_000, xattrs={"user.k": "v"}),
                Item("d/.wh.gone"),
                Item("o/.wh..wh..opq"),
                Item("cap", b"x", xattrs={"security.capability": capability}),
                Item("p/" * 50 + "é" * 100, b"deep"),
                Item("big", bytes(3_000_000) + b"end"),
            ]
        ),
    )
    assert seen[""].mode == 0o555
    assert seen["d/f"] == Seen("file", 0o4755, 1000, b"hello", {}, 3, 1)
    assert seen["d/h"] == seen["h2"] == seen["d/f"]
    assert (seen["d/l"].kind, seen["d/l"].content) == ("link", b"../f")
    assert (seen["d/hl"].kind, seen["d/hl"].links) == ("link", 2)
    assert (seen["d/fifo"].kind, seen["d/fifo"].mode) == ("fifo", 0o600)
    assert seen["d/null"].kind == "device"
    assert seen["d"] == Seen("dir", 0o1777, 70_000, b"", {"user.k": b"v"}, 1, 1_600_000_000)
    assert seen["d/gone"].kind == "whiteout"
    assert seen["o"].xattrs == {"trusted.overlay.opaque": b"y"}
    assert seen["cap"].xattrs == {"security.capability": capability.encode()}
    assert seen["p/" * 50 + "é" * 100].content == b"deep"
    assert seen["p"] == Seen("dir", 0o755, 0, b"", {}, 1, 0)
    assert seen["big"].content == bytes(3_000_000) + b"end"


def test_double_entries_end_as_in_an_unpacked_tree(tmp_path: Path) -> None:
    seen = convert(
        tmp_path,
        make_tar(
            [
                Item("a", b"1"),
                hardlink("b", "a"),
                Item("a", b"22"),
                folder("d"),
                Item("d/f"),
                Item("d", b"now a file"),
                Item("e"),
                folder("e", 0o700),
                Item("e/f", b"3"),
                folder("./", 0o700),
            ]
        ),
    )
    assert {name: one.content for name, one in seen.items() if one.kind == "file"} == {
        "a": b"22",
        "b": b"1",
        "d": b"now a file",
        "e/f": b"3",
    }
    assert seen["e"].mode == seen[""].mode == 0o700


@pytest.mark.parametrize("tar", [b"", bytes(512), make_tar([])])
def test_empty_layers(tmp_path: Path, tar: bytes) -> None:
    assert convert(tmp_path, tar).keys() == {""}


def _members(data: bytes, size: int) -> bytes:
    """gzip with a member for every `size` bytes, as eStargz has, and padding."""
    parts = [gzip.compress(data[i : i + size]) for i in range(0, len(data), size)]
    return b"".join(parts) + bytes(100)


def _frames(data: bytes, size: int) -> bytes:
    """zstd with several frames, and a skippable one at the begin and the end, as zstd:chunked."""
    skippable = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"12345678"
    parts = [zstandard.compress(data[i : i + size]) for i in range(0, len(data), size)]
    return skippable + b"".join(parts) + skippable


RANDOM = random.Random(1).randbytes(300_000)
TAR = make_tar([Item("f", RANDOM), Item("zeros", bytes(5_000_000)), Item("g", b"end")])
BLOBS = {
    "gzip": gzip.compress(TAR),
    "gzip-members": _members(TAR, 10_000),
    "zstd": zstandard.compress(TAR),
    "zstd-frames": _frames(TAR, 100_000),
    "plain": TAR,
}


@pytest.mark.parametrize("form", BLOBS)
def test_compressed_layers(tmp_path: Path, form: str) -> None:
    seen = convert(tmp_path, TAR, BLOBS[form])
    assert seen["f"].content == RANDOM
    assert seen["g"].content == b"end"


@pytest.mark.parametrize("form", BLOBS)
def test_truncated_layers(tmp_path: Path, form: str) -> None:
    target = tmp_path / "layer.sqfs"
    cut = BLOBS[form][: int(len(BLOBS[form]) * 0.7)]
    with pytest.raises(BadImage, match=r"layer x is (truncated|damaged)"):
        conversion(cut, target, sha256(TAR)).run()
    assert not target.exists()


@pytest.mark.parametrize("form", ["gzip", "gzip-members", "zstd"])
def test_damaged_layers(tmp_path: Path, form: str) -> None:
    target = tmp_path / "layer.sqfs"
    blob = bytearray(BLOBS[form])
    blob[len(blob) // 2] ^= 0x55
    with pytest.raises(BadImage, match=r"layer x (is damaged|is truncated|does not match)"):
        conversion(bytes(blob), target, sha256(TAR)).run()
    assert not target.exists()


@pytest.mark.parametrize("magic", [b"BZh91AY", b"\xfd7zXZ\0", b"\x04\x22\x4d\x18"])
def test_unknown_compressions_are_named(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(BadImage, match="only gzip and zstd"):
        conversion(magic + bytes(600), tmp_path / "layer.sqfs", sha256(b"")).run()


def test_a_wrong_digest(tmp_path: Path) -> None:
    target = tmp_path / "layer.sqfs"
    with pytest.raises(BadImage, match="layer x does not match its digest"):
        conversion(TAR, target, sha256(b"other")).run()
    assert not target.exists()


def test_a_full_disk(tmp_path: Path) -> None:
    tar = make_tar([Item(f"f{i}", random.Random(i).randbytes(1_000_000)) for i in range(12)])
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        target = disk / "layer.sqfs"
        with pytest.raises(NoSpace) as caught:
            conversion(tar, target, sha256(tar)).run()
        assert f"no space left on {disk}: layer x needs more than" in caught.value.message
        assert not target.exists()


def test_without_sqfstar_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.images.failures.PROGRAM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSupported, match="apt-get install squashfs-tools"):
        conversion(TAR, tmp_path / "layer.sqfs", sha256(TAR)).run()


def sized_header(size: int) -> bytes:
    """The header of a file of any size."""
    block = bytearray(make_tar([Item("f")])[:512])
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class _Endless(io.BytesIO):
    """A file of 1 TB, slowly."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.01)
        return super().read(size) or b"\x01" * 100_000


def _children() -> set[str]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(path.read_text().split())


def test_a_cancelled_conversion_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "layer.sqfs"
    children = _children()
    begin_of_file = sized_header(1 << 37)
    work = Conversion(lambda: _Endless(begin_of_file), target, "layer x", sha256(b""))
    timer = threading.Timer(0.3, work.cancel)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        work.run()
    timer.join()
    assert time.monotonic() - begin < 10
    assert not target.exists()
    assert _children() <= children


def test_twenty_thousand_small_files(tmp_path: Path) -> None:
    tar = make_tar(Item(f"d{i % 300}/f{i}", b"%d" % i) for i in range(20_000))
    target = tmp_path / "layer.sqfs"
    made: Converted = conversion(tar, target, sha256(tar)).run()
    assert made.facts.entries == 20_000
    listing = subprocess.run(
        ["unsquashfs", "-l", str(target)], capture_output=True, text=True, timeout=60, check=True
    )
    assert len([line for line in listing.stdout.splitlines() if "/f" in line]) == 20_000


def test_a_file_of_eight_gigabytes_of_zeros(tmp_path: Path) -> None:
    """A file beyond 8 GiB needs another form of the size; the image stays small."""
    size = (8 << 30) + 5
    zeros = bytes(1 << 20)

    class Blob:
        def __init__(self) -> None:
            end = b"12345" + bytes(507 + 1024)
            self.parts = iter([sized_header(size), *[zeros] * (8 << 10), end])

        def __enter__(self) -> "Blob":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int, /) -> bytes:
            return next(self.parts, b"")

    digest = hashlib.sha256()
    blob = Blob()
    while data := blob.read(0):
        digest.update(data)
    target = tmp_path / "layer.sqfs"
    Conversion(Blob, target, "layer x", f"sha256:{digest.hexdigest()}").run()
    assert target.stat().st_size < 2 << 20
    out = subprocess.run(
        ["unsquashfs", "-lln", str(target)], capture_output=True, text=True, timeout=60, check=True
    )
    assert str(size) in out.stdout
