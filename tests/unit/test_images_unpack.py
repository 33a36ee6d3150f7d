"""Layers unpacked into directories, and blobs that hyperd and containerd's clients share."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from hypercontainer.errors import NotSupported
from hypercontainer.images.contentfiles import ContentFiles, link_content
from hypercontainer.images.difference import layer_of
from hypercontainer.images.failures import BadImage
from hypercontainer.images.records import Files, LayerRecord
from hypercontainer.images.unpack import Unpacking

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


def _tar(*entries: tuple[str, bytes, dict[str, object]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data, more in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _unpack(tmp_path: Path, data: bytes) -> tuple[Path, str]:
    blob, target = tmp_path / "blob", tmp_path / "target"
    blob.write_bytes(data)
    target.mkdir(exist_ok=True)
    done = Unpacking(lambda: blob.open("rb"), target, "layer", None).run()
    return target, done.diff_id


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o751, "mtime": 1_500_000_000}


def test_attributes_links_and_whiteouts(tmp_path: Path) -> None:
    data = _tar(
        ("./", b"", {**DIRECTORY, "mode": 0o1777, "uid": 5}),
        ("d/", b"", {**DIRECTORY, "uid": 7, "gid": 8}),
        ("d/f", b"hello", {"mode": 0o4755, "uid": 9, "mtime": 1_400_000_000}),
        ("d/h", b"", {"type": tarfile.LNKTYPE, "linkname": "d/f"}),
        ("s", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("implied/x", b"", {}),
        (".wh.gone", b"", {}),
        ("opaque/.wh..wh..opq", b"", {}),
        ("x", b"x", {"pax_headers": {"SCHILY.xattr.user.a": "b"}}),
    )
    target, diff_id = _unpack(tmp_path, data)
    assert diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (target.stat().st_mode & 0o7777, target.stat().st_uid) == (0o1777, 5)
    directory = (target / "d").stat()
    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_gid) == (0o751, 7, 8)
    assert directory.st_mtime == 1_500_000_000
    file = (target / "d/f").stat()
    assert (file.st_mode & 0o7777, file.st_uid, file.st_mtime) == (0o4755, 9, 1_400_000_000)
    assert (target / "d/h").stat().st_ino == file.st_ino
    assert os.readlink(target / "s") == "/etc/passwd"
    assert (target / "gone").stat().st_rdev == 0
    assert (target / "gone").is_char_device()
    assert os.getxattr(target / "opaque", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(target / "x", "user.a") == b"b"


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", b"x", {})],
        [("/out", b"x", {})],
        [("l", b"", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}), ("l/out", b"x", {})],
        [("h", b"", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"})],
        [("a", b"x", {}), ("dev", b"", {"type": tarfile.BLKTYPE, "devmajor": 8})],
    ],
)
def test_what_leads_out_is_refused_and_leaves_nothing(
    tmp_path: Path, entries: list[tuple[str, bytes, dict[str, object]]]
) -> None:
    with pytest.raises(BadImage):
        _unpack(tmp_path, _tar(("first", b"1", {}), *entries))
    assert os.listdir(tmp_path / "target") == []
    assert sorted(os.listdir(tmp_path)) == ["blob", "target"]


def test_a_damaged_blob_leaves_nothing(tmp_path: Path) -> None:
    data = _tar(("a", b"x" * 100_000, {}))
    with pytest.raises(BadImage, match="truncated"):
        _unpack(tmp_path, data[:50_000])
    assert os.listdir(tmp_path / "target") == []


def test_blobs_are_one_file_for_both(tmp_path: Path) -> None:
    content = ContentFiles(tmp_path)
    ingest = content.open_ingest("one", "a blob")
    ingest.write(b"lay")
    ingest.close()
    ingest = content.open_ingest("one", "a blob")
    assert ingest.offset == 3, "it goes on where it was left"
    ingest.write(b"er of sorts")
    ingest.cut(5)
    digest = ingest.digest
    assert digest == f"sha256:{hashlib.sha256(b'layer').hexdigest()}"
    content.adopt(ingest, digest)
    ingest.close()

    files = Files(tmp_path)
    try:
        link_content(tmp_path, digest, files.blob_path(digest))
        assert files.blob_path(digest).stat().st_ino == content.path(digest).stat().st_ino
        made = tmp_path / "tmp" / "made"
        made.write_bytes(b"image")
        diff_id = f"sha256:{'1' * 64}"
        files.add_layer(diff_id, made, files.blob_path(digest), LayerRecord(5, 5, 1, False, digest))
        content.remove(digest)
        assert not content.path(digest).exists()
        assert content.size(digest) == 5, "taken from hyperd's layers"
        files.remove_layer(diff_id)
        assert content.path(digest).read_bytes() == b"layer"
        content.remove_others({digest}, set())
        assert content.path(digest).exists()
        content.remove_others(set(), set())
        assert os.listdir(tmp_path / "content") == ["ingest"]
    finally:
        files.close()


def test_there_and_back(tmp_path: Path) -> None:
    data = _tar(
        ("d/", b"", {**DIRECTORY, "uid": 7}),
        ("d/f", b"hello", {"mode": 0o4755, "uid": 9, "mtime": 1_400_000_000}),
        ("d/h", b"", {"type": tarfile.LNKTYPE, "linkname": "d/f"}),
        ("d/.wh..wh..opq", b"", {}),
        ("s", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        (".wh.gone", b"", {}),
        ("x", b"x" * 2_000_000, {"pax_headers": {"SCHILY.xattr.user.a": "b"}}),
    )
    target, _ = _unpack(tmp_path, data)
    again = b"".join(layer_of(os.fsencode(target)))
    with tarfile.open(fileobj=io.BytesIO(again)) as tar:
        found = {info.name: info for info in tar}
    assert sorted(found) == [".wh.gone", "d", "d/.wh..wh..opq", "d/f", "d/h", "s", "x"]
    assert (found["d/f"].mode, found["d/f"].uid, found["d/f"].mtime) == (0o4755, 9, 1_400_000_000)
    assert (found["d/h"].type, found["d/h"].linkname) == (tarfile.LNKTYPE, "d/f")
    assert found["s"].linkname == "/etc/passwd"
    assert found["x"].pax_headers["SCHILY.xattr.user.a"] == "b"
    (tmp_path / "second").mkdir()
    other, _ = _unpack(tmp_path / "second", again)
    assert b"".join(layer_of(os.fsencode(other))) == again
    os.setxattr(other / "d", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(NotSupported, match="renamed"):
        b"".join(layer_of(os.fsencode(other)))
