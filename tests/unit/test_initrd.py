"""The initrd's bytes: a cpio archive that the kernel reads, the same each time."""

import shutil
import subprocess
from pathlib import Path

import pytest

from hyperkernel import distribution, initrd

SIGNATURE = b"\x30\x82" * 50


def signed(module: bytes) -> bytes:
    structure = bytes(8) + len(SIGNATURE).to_bytes(4, "big")
    return module + SIGNATURE + structure + initrd.SIGNATURE_MAGIC


@pytest.fixture
def init(tmp_path: Path) -> Path:
    path = tmp_path / "init"
    path.write_bytes(b"\x7fELF and so on")
    return path


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "00-virtio.ko"
    path.write_bytes(signed(b"a module"))
    return path


def test_the_same_inputs_give_the_same_bytes(init: Path, module: Path, tmp_path: Path) -> None:
    first = initrd.initrd(init, [module])
    init.touch()
    init.chmod(0o700)
    copy = tmp_path / "elsewhere" / module.name
    copy.parent.mkdir()
    shutil.copyfile(module, copy)
    assert initrd.initrd(init, [copy]) == first


def test_cpio_reads_the_archive(init: Path, module: Path, tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("no cpio here")
    data = initrd.initrd(init, [module])
    listing = subprocess.run(
        ["cpio", "-itv"], input=data, capture_output=True, check=True, timeout=30
    )
    names = [line.split()[-1] for line in listing.stdout.decode().splitlines()]
    assert names == [*initrd.DIRECTORIES, "dev/console", "init", "modules", "modules/00-virtio.ko"]
    content = subprocess.run(
        ["cpio", "-i", "--to-stdout", "--quiet", "modules/00-virtio.ko"],
        input=data,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert content.stdout == b"a module"


@pytest.mark.parametrize("size", range(8))
def test_names_and_contents_are_padded_to_four_bytes(size: int) -> None:
    data = initrd.archive([initrd.Entry("n" * (size + 1), 0o100644, b"d" * size)])
    assert len(data) % 512 == 0
    assert data.index(b"070701", 6) % 4 == 0


def test_modules_without_a_signature_stay_as_they_are() -> None:
    assert initrd.without_signature(b"a module") == b"a module"
    assert initrd.without_signature(signed(b"a module")) == b"a module"


def test_modules_come_after_those_they_need() -> None:
    dependencies = (
        "kernel/fs/9p.ko: kernel/net/9pnet.ko kernel/fs/netfs.ko\n"
        "kernel/net/9pnet.ko:\n"
        "kernel/fs/netfs.ko:\n"
        "kernel/drivers/virtio-rng.ko: kernel/virtio.ko kernel/ring.ko\n"
        "kernel/virtio.ko: kernel/ring.ko\n"
        "kernel/ring.ko:\n"
    )
    order = distribution.ordered(("9p", "virtio_rng", "built_in"), dependencies)
    assert [Path(path).stem for path in order] == [
        *("netfs", "9pnet", "9p", "ring", "virtio", "virtio-rng"),
    ]
    assert distribution.ordered((), dependencies) == []
