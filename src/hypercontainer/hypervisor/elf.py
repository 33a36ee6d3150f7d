"""An ELF kernel without the gaps of its file, which are a third of it. By the ELF-64 Object File
Format: its header (e_phoff, e_shoff, e_phnum and what follows) and its program headers."""

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
# type, flags, offset, virtual address, address, size in the file, size in memory, alignment
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD = 1
_ALIGNMENT = 16


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
