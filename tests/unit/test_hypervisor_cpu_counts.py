"""How many CPUs a VM may get."""

from pathlib import Path

import pytest

from hypercontainer.guest.kernel import GuestImage
from hypercontainer.guest.platforms import ARCHITECTURES, NATIVE
from hypercontainer.hypervisor import cpu_counts, starter
from hypercontainer.hypervisor.cpu_counts import most


def test_no_more_than_the_machine_has_nor_where_the_kernel_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, packed = tmp_path / "vmlinux", tmp_path / "vmlinuz"
    told.write_bytes(starter.program(2, 0x1000000))
    packed.write_bytes(b"MZ" + bytes(100))
    image = GuestImage(str(told), "/i", "custom")
    monkeypatch.setattr(cpu_counts, "host_cpus", lambda: 4)
    assert most(1, image, "tcg", NATIVE) == most(2, image, "kvm", NATIVE) == 4
    assert most(4, image, "tcg", NATIVE) == most(5, image, "tcg", NATIVE) == 0
    assert most(1, image, "xen", NATIVE) == 0
    other = next(name for name in ARCHITECTURES if name != NATIVE)
    assert most(1, image, "tcg", other) == 0
    assert most(1, image._replace(kernel=str(packed)), "tcg", NATIVE) == 0
    assert most(1, image._replace(kernel="/flash", cbfs="/flash"), "tcg", NATIVE) == 4
    monkeypatch.setattr(cpu_counts, "host_cpus", lambda: 64)
    assert most(1, image, "tcg", NATIVE) == 8
