"""An ELF kernel without its gaps is the same program, and where one is entered."""

import struct
from pathlib import Path

import pytest

from hypercontainer.hypervisor import elf, starter

GAP = 0x1000


def program() -> bytes:
    """Two segments far apart, with notes in the first, and sections."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 3 * GAP, 0, 64, 56, 3, 64, 1, 0),
    )
    segments = [
        (1, 5, GAP, 0xFFFFFFFF81000000, 0x1000000, 20, 20, GAP),
        (1, 6, 2 * GAP, 0xFFFFFFFF82000000, 0x2000000, 4, 400, GAP),
        (4, 4, GAP + 8, 0xFFFFFFFF81000008, 0x1000008, 12, 12, 4),
    ]
    out = bytearray(header + b"".join(struct.pack("<IIQQQQQQ", *s) for s in segments))
    out += bytes(GAP - len(out)) + b"the text" + b"some notes.." + bytes(GAP - 20)
    return bytes(out) + b"data" + bytes(GAP - 4) + bytes(64)


def segments_of(data: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    table, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    found = []
    for i in range(count):
        fields = struct.unpack_from("<IIQQQQQQ", data, table + 56 * i)
        found.append(((fields[0], *fields[3:]), data[fields[2] : fields[2] + fields[5]]))
    return found


def test_the_segments_are_the_same_and_the_gaps_are_gone() -> None:
    made = elf.compact(program())
    assert elf.is_elf(made)
    assert segments_of(made) == segments_of(program())
    assert segments_of(made)[2][1] == b"some notes.."
    assert len(made) < 64 + 3 * 56 + 64
    assert elf.compact(made) == made


@pytest.mark.parametrize(("at", "value"), [(32, 1 << 40), (64 + 8, 1 << 40), (64 + 32, 1 << 40)])
def test_a_damaged_one_is_refused(at: int, value: int) -> None:
    data = bytearray(program())
    struct.pack_into("<Q", data, at, value)
    with pytest.raises(ValueError, match="not in it"):
        elf.compact(bytes(data))


def test_others_are_none() -> None:
    assert not elf.is_elf(b"MZ" + bytes(100))
    assert not elf.is_elf(b"\x7fELF\x01\x01" + bytes(100))
    assert not elf.is_elf(b"\x7fELF\x02\x01")


def test_the_entry_by_pvh_is_what_the_notes_say(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    made = starter.program(8, 0x10004A0)
    kernel.write_bytes(made)
    entry = elf.pvh_entry(str(kernel))
    (load, content), _ = segments_of(made)
    assert entry is not None and load[2] == 1 << 20
    code = content[entry - load[2] :]
    assert code.startswith(b"\xfc\xbe") and b"\xb8\xa0\x04\x00\x01\xff\xe0" in code[:32]
    kernel.write_bytes(elf.compact(program()))
    assert elf.pvh_entry(str(kernel)) is None
    kernel.write_bytes(b"MZ" + bytes(100))
    assert elf.pvh_entry(str(kernel)) is None


@pytest.mark.parametrize("at", [32, 64 + 56 + 8])
@pytest.mark.parametrize("value", [1 << 40, (1 << 64) - 1])
def test_a_damaged_one_has_no_entry(tmp_path: Path, at: int, value: int) -> None:
    data = bytearray(starter.program(2, 0x1000000))
    struct.pack_into("<Q", data, at, value)
    (tmp_path / "kernel").write_bytes(data)
    assert elf.pvh_entry(str(tmp_path / "kernel")) is None
