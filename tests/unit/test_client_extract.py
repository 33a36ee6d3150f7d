"""Unpacking archives of containers, which may be hostile."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from hypercontainer.client.extract import Extractor
from hypercontainer.client.files import BodyFile
from hypercontainer.errors import BadRequest


class Body(BodyFile):
    """An archive of a hostile container."""

    def __init__(self, *members: tarfile.TarInfo) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for member in members:
                tar.addfile(member, io.BytesIO(bytes(member.size)))
        self._chunks = iter([buffer.getvalue()])
        self._data = b""


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, 0o7777
    return info


def test_a_hostile_archive_stays_inside(tmp_path: Path) -> None:
    """Nothing outside of the destination is made, changed or linked to."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    up = "../outside"
    link = entry("a/link", tarfile.SYMTYPE, str(outside))
    for members in (
        [entry("a/../../outside/x")],
        [entry("/a/../../outside/x")],
        [link, entry("a/link/x")],
        [link, entry("a/link/y", tarfile.DIRTYPE)],
        [entry("a/link", tarfile.SYMTYPE, f"../{up}"), entry("a/link/x", size=5)],
        [link, entry("a/hard", tarfile.LNKTYPE, "a/link/secret")],
        [entry("a/hard", tarfile.LNKTYPE, f"../{up}/secret")],
        [entry("a/" + "d/" * 300 + "../" * 310 + "x")],
    ):
        inside.mkdir()
        with pytest.raises(BadRequest, match=r"leads out|no directory"):
            Extractor(str(inside), lambda name: name).run(Body(*members))
        assert [p.name for p in outside.iterdir()] == ["secret"]
        assert (outside / "secret").stat().st_nlink == 1
        shutil.rmtree(inside)
    inside.mkdir()
    device = entry("null", tarfile.CHRTYPE)
    extractor = Extractor(str(inside), lambda name: name)
    extractor.run(Body(device, entry("set-id", size=3), entry("set-id", size=4)))
    assert extractor.skipped == ["null"]
    assert (inside / "set-id").stat().st_mode & 0o7777 == 0o777
