"""Decompressing streams in bounded memory; the format is found by its first bytes."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import zstandard

from .failures import BadImage

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # bytes 1 to 3 of a skippable frame; zstd:chunked starts so
_ZSTD_WINDOW = 128 << 20  # what `zstd --ultra` needs at most
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"LZIP": "lzip", b"\x04\x22\x4d\x18": "lz4"}


class Readable(Protocol):
    """What a stream is read by."""

    def read(self, size: int, /) -> bytes: ...


def is_compressed(start: bytes) -> bool:
    """Whether a file that starts so is gzip or zstd, or of a kind that `decompress` refuses."""
    known = (_GZIP, _ZSTD, *_REFUSED)
    return start.startswith(known) or start[1:4] == _ZSTD_SKIPPABLE


def decompress(file: Readable, what: str) -> Iterator[bytes]:
    """The plain bytes of `file`: gzip, zstd, or as they are; BadImage names `what` if damaged."""
    first = file.read(CHUNK)
    for magic, name in _REFUSED.items():
        if first.startswith(magic):
            raise BadImage(f"{what} is compressed by {name}; only gzip and zstd are supported")
    if first.startswith(_GZIP):
        return _gunzip(first, file, what)
    if first.startswith(_ZSTD) or first[1:4] == _ZSTD_SKIPPABLE:
        return _unzstd(first, file, what)
    return _plain(first, file)


def _plain(data: bytes, file: Readable) -> Iterator[bytes]:
    while data:
        yield data
        data = file.read(CHUNK)


def _gunzip(data: bytes, file: Readable, what: str) -> Iterator[bytes]:
    """All members of a gzip file; zeros after the last one are padding."""
    inflater = zlib.decompressobj(wbits=31)
    begun = False
    while True:
        if not data:
            data = file.read(CHUNK)
            if not data:
                break
        if not begun and not data.strip(b"\0"):
            data = b""
            continue
        begun = True
        try:
            yield inflater.decompress(data, CHUNK)
        except zlib.error as error:
            raise BadImage(f"{what} is damaged: bad gzip data: {error}") from None
        data = inflater.unconsumed_tail
        if inflater.eof:
            data = inflater.unused_data
            inflater = zlib.decompressobj(wbits=31)
            begun = False
    while begun and not inflater.eof:
        rest = inflater.decompress(b"", CHUNK)
        if not rest:
            raise BadImage(f"{what} is truncated: its gzip data ends early")
        yield rest


def _unzstd(data: bytes, file: Readable, what: str) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(
        cast(BinaryIO, _Prefixed(data, file)), read_size=CHUNK, read_across_frames=True
    )
    size = 0
    try:
        while chunk := reader.read(CHUNK):
            size += len(chunk)
            yield chunk
    except zstandard.ZstdError as error:
        raise BadImage(f"{what} is damaged: bad zstd data: {error}") from None
    if not size:  # the reader takes an early end for the end
        raise BadImage(f"{what} is truncated: its zstd data ends early")


class _Prefixed:
    """A file whose first bytes were read already."""

    def __init__(self, first: bytes, file: Readable) -> None:
        self._first = first
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._file.read(size)
