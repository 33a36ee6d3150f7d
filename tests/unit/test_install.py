"""What `make install` takes along is what hyperd and runv look for."""

import subprocess
from pathlib import Path

import pytest

from hypercontainer.errors import NotFound
from hypercontainer.guest import kernel
from hypercontainer.guest.platforms import ARCHITECTURES, NATIVE
from hypercontainer.hypervisor.vbox_commands import boot_cd

SCRIPT = Path(__file__).parents[2] / "tools/install-guests"
FLAVOURS = ("", "xen", *(name for name in ARCHITECTURES if name != NATIVE))
BUILT = (
    *("hyperkernel/vmlinux", "hyper-initrd.img", "hyperkernel-xen/vmlinux"),
    *("hyperkernel-arm64/Image", "hyper-initrd-arm64.img", "hyper-initrd-uml.img"),
    *("hyper.iso", "firmware.rom", "cbfs.rom", "hyper-giveback-1-2.so"),
)


def install(cache: Path, target: Path) -> str:
    target.mkdir()
    done = subprocess.run(
        [SCRIPT, cache, target], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the product looks, and nowhere else."""
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(kernel, "INSTALLED", str(tmp_path / "installed"))
    monkeypatch.setattr("hypercontainer.hypervisor.vbox_commands.INSTALLED", kernel.INSTALLED)
    return tmp_path / "installed"


def test_everything_that_was_built_is_found(tmp_path: Path, installed: Path) -> None:
    cache = tmp_path / "cache"
    for name in BUILT:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(name)
    assert install(cache, installed) == ""
    for flavour in FLAVOURS:
        found = kernel.find(flavour=flavour)
        directory = Path(Path(found.kernel).read_text()).parent.name
        assert directory == f"hyperkernel-{flavour}".rstrip("-")
        assert Path(found.initrd).read_text() in BUILT
    assert boot_cd() == str(installed / "hyper.iso")
    assert sorted(path.read_text() for path in installed.iterdir()) == sorted(BUILT)


def test_what_was_not_built_is_left_out(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "cache").mkdir()
    assert "no hyperkernel is built" in install(tmp_path / "cache", installed)
    assert not list(installed.iterdir())
    with pytest.raises(NotFound, match="run `make hyperkernel-arm64`"):
        kernel.find(flavour="arm64")
