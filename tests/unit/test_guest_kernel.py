"""Which kernel and initrd a VM boots: those named, else hyperkernel, else the distribution's."""

from pathlib import Path

import pytest

from hypercontainer.errors import NotFound
from hypercontainer.guest import kernel


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    if Path("/var/lib/hyper/kernel").exists():
        pytest.skip("a kernel is installed on this host")
    return tmp_path


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_nothing_is_there(cache: Path) -> None:
    with pytest.raises(NotFound, match="make hyperkernel"):
        kernel.find()


def test_the_small_kernel_goes_before_the_distributions(cache: Path) -> None:
    make(cache / "distribution" / "vmlinuz", cache / "distribution" / "initrd.img")
    assert kernel.find().kind == "distribution"
    make(cache / "hyperkernel" / "vmlinux")
    assert kernel.find().kind == "distribution"
    make(cache / "hyper-initrd.img")
    found = kernel.find()
    assert found.kind == "hyperkernel"
    assert found.kernel == str(cache / "hyperkernel" / "vmlinux")
    assert found.initrd == str(cache / "hyper-initrd.img")


def test_those_named_go_before_all(cache: Path) -> None:
    make(cache / "hyperkernel" / "vmlinux", cache / "hyper-initrd.img", cache / "k", cache / "i")
    own_kernel, own_initrd = str(cache / "k"), str(cache / "i")
    assert kernel.find(own_kernel, own_initrd) == kernel.GuestImage(
        own_kernel, own_initrd, "custom"
    )
    assert kernel.find(own_kernel).initrd == str(cache / "hyper-initrd.img")
    assert kernel.find(None, own_initrd).kernel == str(cache / "hyperkernel" / "vmlinux")


@pytest.mark.parametrize("which", ["kernel", "initrd"])
def test_a_file_named_that_is_not_there_is_named_back(cache: Path, which: str) -> None:
    make(cache / "k", cache / "i")
    names = {"kernel": str(cache / "k"), "initrd": str(cache / "i"), which: str(cache / "missing")}
    with pytest.raises(NotFound, match=f"guest {which} {cache}/missing not found"):
        kernel.find(names["kernel"], names["initrd"])


def test_a_kernel_alone_without_any_initrd(cache: Path) -> None:
    make(cache / "k")
    with pytest.raises(NotFound, match="initrd"):
        kernel.find(str(cache / "k"))


def test_an_own_initrd_needs_no_other_to_find_the_kernel(cache: Path) -> None:
    """A kernel that is built is used with the initrd that was named, though none was built."""
    make(cache / "hyperkernel" / "vmlinux", cache / "i")
    found = kernel.find(None, str(cache / "i"))
    assert found.kernel == str(cache / "hyperkernel" / "vmlinux")
