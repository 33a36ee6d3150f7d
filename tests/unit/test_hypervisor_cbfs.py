"""A CBFS as VMs boot from: what is found in one, and each damage told in one line."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercontainer.errors import BadRequest, NotFound
from hypercontainer.guest.kernel import GuestImage
from hypercontainer.hypervisor import cbfs, flash

SIZE = 8192
HEADER = SIZE - 36
FILES = {"vmlinuz": b"the kernel", "initrd": b"its initrd", "cmdline": b"quiet\n"}


def file(name: str, data: bytes, attributes: bytes = b"") -> bytes:
    start = 24 + 16
    header = struct.pack(
        ">8sIIII16s",
        *(b"LARCHIVE", len(data), 0x50, start if attributes else 0, start + len(attributes)),
        name.encode(),
    )
    whole = header + attributes + data
    return whole + b"\xff" * (-len(whole) % 64)


def rom(files: dict[str, bytes] = FILES, attributes: bytes = b"") -> bytearray:
    """A CBFS as cbfstool makes it: files, nothing, the master header, where that is."""
    data = bytearray(b"".join(file(*each, attributes) for each in files.items()))
    data += b"\xff" * (HEADER - len(data))
    data += struct.pack(">4s4sIIIII4x", b"ORBC", b"1112", SIZE, 0, 64, 0, 1)
    return data + struct.pack("<i", -36)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cbfs.rom"


def test_what_is_in_one(path: Path) -> None:
    path.write_bytes(rom())
    found = cbfs.read(str(path))
    whole = path.read_bytes()
    assert {name: whole[f.offset : f.offset + f.size] for name, f in found.items()} == FILES


def test_whether_it_holds_a_file(path: Path) -> None:
    path.write_bytes(rom())
    kernel = cbfs.read(str(path))["vmlinuz"]
    for content, same in ((b"the kernel", True), (b"the kernet", False), (b"the", False)):
        assert cbfs.holds(str(path), kernel, content) is same


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (SIZE - 4, b"\0\0\0\0", "no master header"),
        (SIZE - 4, b"\xff\xff\xff\xff", "no master header"),
        (SIZE - 4, b"\0\0\0\x80", "no master header"),
        (HEADER, b"CRBO", "no master header"),
        (HEADER + 8, b"\0\1\0\0", "the master header is damaged: it tells of 65536 bytes of 8192"),
        (HEADER + 16, b"\0\0\0\3", "the master header is damaged: places that can't be"),
        (HEADER + 20, b"\0\1\0\0", "the master header is damaged: places that can't be"),
        (8, b"\0\1\0\0", "the file at 0 reaches beyond the end"),
        (20, b"\0\0\0\1", "the file at 0 reaches beyond the end"),
        (16, b"\0\0\1\0", "the file at 0 has a damaged header"),
        (0, b"LARCHIVF", r"no kernel \(a file named vmlinuz\)"),
        (24, b"w", r"no kernel \(a file named vmlinuz\)"),
        (64 + 16 + 24, b"w", r"no initrd \(a file named initrd\)"),
    ],
)
def test_damage_is_told(path: Path, at: int, value: bytes, message: str) -> None:
    data = rom()
    if value == b"w" and at > 64:
        at = data.index(b"initrd")
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(BadRequest, match=f"^cbfs {path}: {message}: `make cbfs` makes one$"):
        cbfs.read(str(path))


def test_what_the_firmware_would_have_to_unpack_is_refused(path: Path) -> None:
    attribute = struct.pack(">IIII", 0x42435A4C, 16, 1, 99)
    path.write_bytes(rom(attributes=attribute))
    with pytest.raises(BadRequest, match="the file vmlinuz is compressed"):
        cbfs.read(str(path))
    path.write_bytes(rom(attributes=attribute.replace(b"\0\0\0\1", b"\0\0\0\0")))
    assert set(cbfs.read(str(path))) == set(FILES)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), max_size=8))
def test_damage_of_any_kind_is_no_surprise(path: Path, changes: list[tuple[int, int]]) -> None:
    data = rom()
    for at, value in changes:
        data[at] = value
    path.write_bytes(data)
    try:
        found = cbfs.read(str(path))
    except BadRequest:
        return
    assert all(f.offset + f.size <= SIZE for f in found.values())


def bios(tmp_path: Path, size: int = 16384) -> str:
    path = tmp_path / "bios"
    path.write_bytes(bytes(size))
    return str(path)


def test_both_are_one_image_whose_files_are_the_flash(path: Path, tmp_path: Path) -> None:
    path.write_bytes(rom())
    firmware = bios(tmp_path)
    image = flash.image(firmware, str(path))
    assert image == GuestImage(str(path), str(path), "flash", firmware, str(path))


@pytest.mark.parametrize(
    ("firmware", "size", "message"),
    [
        (16384, 0, "cbfs .*: 0 bytes are no size of a flash"),
        (16384, 4095, "cbfs .*: 4095 bytes are no size of a flash"),
        (16384, 17 << 20, "cbfs .*: 17825792 bytes are no size of a flash"),
        (16384, 16 << 20, "with the firmware it has 16793600 bytes, and a VM's flash 16777216"),
        (100, 8192, "bios .*: 100 bytes are no size of a flash"),
    ],
)
def test_a_flash_of_the_wrong_size(
    path: Path, tmp_path: Path, firmware: int, size: int, message: str
) -> None:
    with path.open("wb") as out:
        out.truncate(size)
    with pytest.raises(BadRequest, match=message):
        flash.image(bios(tmp_path, firmware), str(path))


def test_what_is_missing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path))
    monkeypatch.setattr(flash, "INSTALLED", str(tmp_path))
    with pytest.raises(NotFound, match="no firmware to boot a cbfs found: run `make cbfs`"):
        flash.image(None, str(path))
    with pytest.raises(NotFound, match=f"^cbfs {path} not found"):
        flash.image(bios(tmp_path), str(path))


@pytest.mark.parametrize(
    ("kernel", "initrd", "other"),
    [
        (b"the kernel", b"its initrd", ""),
        (b"another", b"its initrd", "kernel"),
        (b"the kernel", b"another", "initrd"),
    ],
)
def test_a_stale_one_is_warned_of(
    path: Path, tmp_path: Path, kernel: bytes, initrd: bytes, other: str
) -> None:
    path.write_bytes(rom())
    (tmp_path / "k").write_bytes(kernel)
    (tmp_path / "i").write_bytes(initrd)
    said = flash.stale(str(path), GuestImage(str(tmp_path / "k"), str(tmp_path / "i"), "custom"))
    assert f"holds another {other} than" in said if other else said == ""


def test_the_packed_form_of_the_kernel_is_that_kernel(path: Path, tmp_path: Path) -> None:
    path.write_bytes(rom())
    (tmp_path / "vmlinux").write_bytes(b"unpacked")
    (tmp_path / "bzImage").write_bytes(FILES["vmlinuz"])
    (tmp_path / "i").write_bytes(FILES["initrd"])
    image = GuestImage(str(tmp_path / "vmlinux"), str(tmp_path / "i"), "custom")
    assert flash.stale(str(path), image) == ""
