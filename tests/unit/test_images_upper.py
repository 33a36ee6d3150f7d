"""Writable disks: sparse, sound, quick, and errors that say what to do."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, NoSpace, NotSupported
from hypercontainer.images.upper import make_upper
from tests.disks import small_disk

GIB = 1 << 30


def _check(disk: Path) -> None:
    subprocess.run(["e2fsck", "-fn", str(disk)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("size", [16 << 20, 300 << 20, 10 * GIB, 1000 * GIB])
def test_a_disk_is_sparse_and_sound(size: int, tmp_path: Path) -> None:
    disk = tmp_path / "upper.ext4"
    make_upper(disk, size, tmp_path)
    facts = disk.stat()
    assert facts.st_size == size
    assert facts.st_blocks * 512 < max(size // 10_000, 1 << 20)
    assert facts.st_mode & 0o777 == 0o600
    _check(disk)


def test_further_disks_are_quick(tmp_path: Path) -> None:
    make_upper(tmp_path / "first", 10 * GIB, tmp_path)
    took = []
    for number in range(10):
        begin = time.perf_counter()
        make_upper(tmp_path / f"disk{number}", 10 * GIB, tmp_path)
        took.append(time.perf_counter() - begin)
    assert sorted(took)[5] < 0.02
    _check(tmp_path / "disk9")


def test_a_plain_copy_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can't share blocks."""
    monkeypatch.setattr("hypercontainer.system.sparse._FICLONE", 0)
    make_upper(tmp_path / "disk", 10 * GIB, tmp_path)
    assert (tmp_path / "disk").stat().st_blocks * 512 < 1 << 20
    _check(tmp_path / "disk")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="too small: the least is 16"):
        make_upper(tmp_path / "disk", 1000, tmp_path)
    make_upper(tmp_path / "disk", 16 << 20, tmp_path)
    (tmp_path / "disk").write_bytes(b"mine")
    with pytest.raises(BadRequest, match="it exists"):
        make_upper(tmp_path / "disk", 16 << 20, tmp_path)
    assert (tmp_path / "disk").read_bytes() == b"mine"


def test_a_full_disk(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    make_upper(tmp_path / "disk", GIB, tmp_path)
    with small_disk(tmp_path / "small", 64 << 10) as place:
        (place / "fill").write_bytes(bytes(40 << 10))
        with pytest.raises(NoSpace, match=f"no space left on {place}: the disk upper"):
            make_upper(place / "upper", GIB, tmp_path)
        assert not (place / "upper").exists()


def test_without_mkfs_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypercontainer.images.failures.PROGRAM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSupported, match="apt-get install e2fsprogs"):
        make_upper(tmp_path / "disk", GIB, tmp_path)
    assert not list(tmp_path.iterdir())
