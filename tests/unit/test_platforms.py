"""Platforms: their names, which of them run here, and QEMU's command line for them."""

from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import HyperError, NotFound, NotSupported, VMError
from hypercontainer.guest import platforms
from hypercontainer.hypervisor import foreign, virt
from hypercontainer.hypervisor.machine import Ends, Machine
from hypercontainer.hypervisor.qemu_start import command
from hypercontainer.images import Image
from hypercontainer.pods.architecture import check_platform
from hypercontainer.sandbox import VMConfig
from hypercontainer.sandbox.machines import machine_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("linux", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("Linux/ARM64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
    ],
)
def test_names_of_platforms(text: str, found: str) -> None:
    assert platforms.normal(text) == found


@pytest.mark.parametrize("text", ["linux/s390x", "windows/amd64", "linux/arm/v7", "arm64/v9", "/"])
def test_other_platforms_are_refused(text: str) -> None:
    with pytest.raises(NotSupported) as refused:
        platforms.normal(text)
    assert refused.value.message == (
        f"platform {text}: hyper has neither an emulator nor a guest kernel for it:"
        " use an image for one of linux/amd64 and linux/arm64"
    )


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without emulators and kernels; what is put into the directory is on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    monkeypatch.setattr("hypercontainer.guest.kernel.INSTALLED", str(tmp_path / "none"))
    return tmp_path


def test_what_is_missing_is_said_with_the_remedy(bare: Path) -> None:
    def refusal() -> HyperError:
        with pytest.raises(HyperError) as refused:
            foreign.check_runnable("arm64")
        assert foreign.platforms()["linux/arm64"] == refused.value.message
        return refused.value

    no_emulator = refusal()
    assert isinstance(no_emulator, VMError)
    assert no_emulator.message == (
        "qemu-system-aarch64 not found: install qemu-system-arm (apt-get install qemu-system-arm)"
    )
    (bare / "qemu-system-aarch64").write_text("")
    (bare / "qemu-system-aarch64").chmod(0o755)
    no_kernel = refusal()
    assert isinstance(no_kernel, NotFound)
    assert no_kernel.message == (
        "no guest kernel for linux/arm64 found: run `make hyperkernel-arm64`"
    )
    (bare / "hyperkernel-arm64").mkdir()
    for name in ("hyperkernel-arm64/Image", "hyper-initrd-arm64.img"):
        (bare / name).write_text("")
    assert foreign.platforms()["linux/arm64"] == ""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"accel": "kvm"}, "kvm runs no linux/arm64 on this machine"),
        ({"accel": "xen"}, "xen runs no linux/arm64 on this machine"),
        ({"cbfs": "/x"}, "bios, cbfs: linux/arm64 has none"),
    ],
)
def test_what_a_foreign_machine_has_not(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(HyperError, match=reason):
        machine_of("x", str(tmp_path), VMConfig(architecture="arm64", **settings))


def test_an_unknown_architecture() -> None:
    with pytest.raises(NotSupported, match="architecture s390x: "):
        VMConfig(architecture="s390x").validate()


@pytest.mark.parametrize(("cpus", "gic"), [(1, 2), (8, 2), (9, 3)])
def test_the_command_line(cpus: int, gic: int, bare: Path) -> None:
    (bare / "qemu-system-aarch64").write_text("")
    (bare / "qemu-system-aarch64").chmod(0o755)
    machine = Machine(
        *("vm", "tcg", cpus, 128, "/Image", "/initrd", "quiet", "", "none", 0, ""),
        architecture="arm64",
    )
    argv = command(machine, dict.fromkeys(Ends._fields, 9))
    assert argv[0] == str(bare / "qemu-system-aarch64")
    assert argv[argv.index("-M") + 1].startswith(f"virt,gic-version={gic},")
    arguments = argv[argv.index("-append") + 1].split()
    assert arguments[0] == "console=ttyAMA0" and arguments[-1] == "quiet"
    assert "-bios" not in argv
    assert not {"reboot=t", "noreplace-smp", "acpi=off"} & set(arguments)


def test_places_of_cards() -> None:
    assert virt.Places("amd64").take("dev-card1", "5") == {"addr": "5"}
    assert virt.Places("amd64").take("dev-card1") == {}
    places = virt.Places("arm64")
    for port in virt.PORTS:
        assert places.take(f"dev-{port}") == {"bus": port}
    with pytest.raises(VMError, match="no free port for dev-more"):
        places.take("dev-more")
    places.free("dev-port3")
    assert places.take("dev-more", "port3") == {"bus": "port3"}
    assert virt.places(
        [
            {
                "devices": [
                    {"qdev_id": "scsi0", "slot": 3},
                    {
                        "qdev_id": "port3",
                        "slot": 30,
                        "pci_bridge": {"devices": [{"qdev_id": "dev-card1", "slot": 0}]},
                    },
                ]
            }
        ]
    ) == {"scsi0": "3", "port3": "1e", "dev-card1": "port3"}


def test_an_image_for_another_platform_counts_as_missing() -> None:
    image = Image("sha256:0", [], [], {"architecture": "amd64"}, "", 0, [])
    check_platform(image, "", "box")
    check_platform(image, "linux/amd64", "box")
    with pytest.raises(NotFound, match="no such image for linux/arm64: box is here for linux/amd"):
        check_platform(image, "linux/arm64", "box")
