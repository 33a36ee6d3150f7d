"""ELF kernels: one without the gaps of its file, which are a third of it; where one is entered by
PVH, and a program that is entered so. By the ELF-64 Object File Format: its header (e_phoff,
e_shoff, e_phnum and what follows), its program headers and notes."""

import os
import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
# type, flags, offset, virtual address, address, size in the file, size in memory, alignment
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD, _NOTES = 1, 4
_ALIGNMENT = 16
_PAGE = 4096
_MAX_SEGMENTS = 64
# size of the owner's name, of what is said, kind
_NOTE = struct.Struct("<III")
# Xen's include/public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY.
_XEN, _PVH_ENTRY = b"Xen\0", 18
_MAX_NOTES = 64 << 10
_IDENTITY = b"\x7fELF\x02\x01\x01"
_EXECUTABLE, _X86_64, _VERSION = 2, 62, 1


def is_elf(data: bytes) -> bool:
    """Whether it is an ELF file of 64 bits, little-endian."""
    return data[:6] == b"\x7fELF\x02\x01" and len(data) >= _HEADER.size


def compact(data: bytes) -> bytes:
    """The same program: its segments, one after the other, and no sections.

    Raises ValueError for a damaged file.
    """
    fields = list(_HEADER.unpack_from(data))
    table, count = fields[5], fields[10]
    if table + count * _SEGMENT.size > len(data):
        raise ValueError("its program headers are not in it")
    segments = [list(_SEGMENT.unpack_from(data, table + i * _SEGMENT.size)) for i in range(count)]
    out = bytearray(_HEADER.size + count * _SEGMENT.size)
    moved: list[tuple[int, int, int]] = []
    for segment in segments:
        kind, offset, size = segment[0], segment[2], segment[5]
        if offset + size > len(data):
            raise ValueError("a segment is not in it")
        if kind != _LOAD:
            continue
        out += bytes(-len(out) % _ALIGNMENT)
        moved.append((offset, offset + size, len(out)))
        segment[2] = len(out)
        out += data[offset : offset + size]
    for segment in segments:
        if segment[0] != _LOAD:
            segment[2] = _moved_to(segment[2], moved)
    for i, segment in enumerate(segments):
        _SEGMENT.pack_into(out, _HEADER.size + i * _SEGMENT.size, *segment)
    fields[5], fields[6] = _HEADER.size, 0
    fields[11:14] = [0, 0, 0]
    _HEADER.pack_into(out, 0, *fields)
    return bytes(out)


def _moved_to(offset: int, moved: list[tuple[int, int, int]]) -> int:
    """Notes are within a segment that is loaded; where there is none, they are left out."""
    return next((to + offset - start for start, end, to in moved if start <= offset < end), 0)


def pvh_entry(path: str) -> int | None:
    """Where the kernel of a file is entered by PVH, None for another. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        header = os.pread(file.fileno(), _HEADER.size, 0)
        if not is_elf(header):
            return None
        fields = _HEADER.unpack(header)
        table, count = fields[5], min(fields[10], _MAX_SEGMENTS)
        try:
            segments = os.pread(file.fileno(), count * _SEGMENT.size, table)
            for i in range(len(segments) // _SEGMENT.size):
                kind, _, offset, _, _, size, *_ = _SEGMENT.unpack_from(segments, i * _SEGMENT.size)
                if kind == _NOTES:
                    return _pvh_note(os.pread(file.fileno(), min(size, _MAX_NOTES), offset))
        except OverflowError:  # an offset that no file has
            return None
    return None


def _pvh_note(notes: bytes) -> int | None:
    at = 0
    while at + _NOTE.size <= len(notes):
        named, size, kind = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        said_at = name_at + _word_up(named)
        if kind == _PVH_ENTRY and notes[name_at : name_at + named] == _XEN:
            entry = int.from_bytes(notes[said_at : said_at + size][:8], "little")
            return entry if 0 < entry < 1 << 32 else None
        at = said_at + _word_up(size)
    return None


def _word_up(size: int) -> int:
    return -(-size // 4) * 4


def pvh_program(address: int, content: bytes, entry: int) -> bytes:
    """A program of one segment, at a physical address of a multiple of 4096, entered by PVH."""
    note = _NOTE.pack(len(_XEN), 8, _PVH_ENTRY) + _XEN + struct.pack("<Q", entry)
    content += bytes(-len(content) % _ALIGNMENT)
    note_at = address + len(content)
    everything = content + note
    header = _HEADER.pack(
        _IDENTITY, _EXECUTABLE, _X86_64, _VERSION, entry, _HEADER.size, 0, 0, _HEADER.size,
        _SEGMENT.size, 2, 0, 0, 0,
    )  # fmt: skip
    sizes = (len(everything), len(everything))
    load = _SEGMENT.pack(_LOAD, 7, _PAGE, address, address, *sizes, _PAGE)
    notes = _SEGMENT.pack(
        _NOTES, 4, _PAGE + len(content), note_at, note_at, len(note), len(note), 4
    )
    return (header + load + notes).ljust(_PAGE, b"\0") + everything
