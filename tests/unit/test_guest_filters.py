"""Compiled filters are kept, used again, and used by nobody whom they are not for."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.guest import filters
from hypercontainer.guest.seccomp import compile_filter

DOCKERS = json.loads((Path(__file__).parent / "data/oci/docker.json").read_text())["linux"]
SECCOMP: dict[str, Any] = DOCKERS["seccomp"]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    templates = tmp_path / "templates"
    monkeypatch.setattr(filters, "TEMPLATES", str(templates))
    monkeypatch.setattr(filters, "_DIRECTORY", str(templates / ".seccomp"))
    return templates / ".seccomp"


def kept(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_a_filter_is_compiled_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = compile_filter(SECCOMP, "amd64")
    assert filters.compiled(SECCOMP, "amd64") == own
    assert len(kept(directory)) == 1
    assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("hypercontainer.guest.seccomp.compile_filter", None)
    assert filters.compiled(SECCOMP, "amd64") == own


def test_each_has_its_own(directory: Path) -> None:
    other = {**SECCOMP, "defaultErrnoRet": 2}
    expected = [compile_filter(SECCOMP, "amd64"), compile_filter(other, "amd64")]
    expected.append(compile_filter(SECCOMP, "arm64"))
    for _ in range(2):
        found = [filters.compiled(SECCOMP, "amd64"), filters.compiled(other, "amd64")]
        assert [*found, filters.compiled(SECCOMP, "arm64")] == expected
    assert len(kept(directory)) == 3


def test_a_wrong_one_is_told_each_time(directory: Path) -> None:
    for _ in range(2):
        with pytest.raises(BadRequest, match="defaultAction"):
            filters.compiled({"defaultAction": "SCMP_ACT_WHAT"}, "amd64")
    assert not directory.exists()


@pytest.mark.parametrize("content", [b"", b"0", b"0 ", b"x AAAA", b"\xff\xfe"])
def test_a_damaged_one_is_compiled_anew(directory: Path, content: bytes) -> None:
    own = filters.compiled(SECCOMP, "amd64")
    kept(directory)[0].write_bytes(content)
    assert filters.compiled(SECCOMP, "amd64") == own
    assert kept(directory)[0].read_bytes() == f"{own[1]} {own[0]}".encode()


def test_one_that_others_may_write_is_not_used(directory: Path) -> None:
    own = filters.compiled(SECCOMP, "amd64")
    path = kept(directory)[0]
    path.write_text("0 AAAA")
    path.chmod(0o666)
    assert filters.compiled(SECCOMP, "amd64") == own
    path.write_text("0 AAAA")
    directory.chmod(0o777)
    assert filters.compiled(SECCOMP, "amd64") == own
    directory.chmod(0o700)
    elsewhere = directory.parent / "elsewhere"
    elsewhere.write_text("0 AAAA")
    path.unlink()
    path.symlink_to(elsewhere)
    assert filters.compiled(SECCOMP, "amd64") == own


def test_so_many_are_kept_and_no_more(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_MOST", 3)
    for number in range(5):
        filters.compiled({**SECCOMP, "defaultErrnoRet": number + 1}, "amd64")
        for path in kept(directory):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert len(kept(directory)) == 3


def test_without_a_place_it_is_compiled_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(filters, "TEMPLATES", str(tmp_path / "file"))
    monkeypatch.setattr(filters, "_DIRECTORY", str(tmp_path / "file/.seccomp"))
    assert filters.compiled(SECCOMP, "amd64") == compile_filter(SECCOMP, "amd64")
