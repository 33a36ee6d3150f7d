"""The frames of ttrpc (PROTOCOL.md, "Data Frame"): a header of 10 bytes, then the payload.

The header is the payload's length and the stream's number, 4 bytes each, a type and flags, 1 byte
each; all big endian.
"""

import struct
from typing import NamedTuple

HEADER = struct.Struct(">IIBB")
MAX_PAYLOAD = 4 << 20
"""Bytes of a payload that every peer takes."""
REQUEST, RESPONSE = 1, 2


class Frame(NamedTuple):
    """One frame; `payload` is None when it was longer than MAX_PAYLOAD and left out."""

    length: int
    stream: int
    kind: int
    payload: bytes | None


def pack(stream: int, kind: int, payload: bytes) -> bytes:
    """A frame as bytes."""
    return HEADER.pack(len(payload), stream, kind, 0) + payload


class FrameReader:
    """Finds frames in bytes as they come. No more than one payload is held."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        A frame that is too long is told by its header, and its payload passed over.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._data += data
        frames = []
        while len(self._data) >= HEADER.size:
            length, stream, kind, _ = HEADER.unpack_from(self._data)
            end = HEADER.size + length
            if length > MAX_PAYLOAD:
                frames.append(Frame(length, stream, kind, None))
                self._skip = max(0, end - len(self._data))
            elif len(self._data) < end:
                break
            else:
                payload = bytes(self._data[HEADER.size : end])
                frames.append(Frame(length, stream, kind, payload))
            del self._data[:end]
        return frames
