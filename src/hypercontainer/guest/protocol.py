"""Messages and frames of the guest protocol (docs/guest-protocol.md), without any I/O.

Both decoders take what the guest sent, so they bound every length and raise
`ProtocolError` on what a sane guest never sends.
"""

import json
import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

VERSION = 1
MAX_MESSAGE = 4 << 20
MAX_DATA = 65536
INITIAL_WINDOW = 65536
MAX_STREAM = (1 << 31) - 1
_MAX_WINDOW = 1 << 30

_HEADER = struct.Struct(">II")
_FRAME = struct.Struct(">QI")
_WINDOW_BIT = 1 << 63
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class ProtocolError(Exception):
    """The guest broke the protocol; its VM can't be trusted to go on."""


class Code(IntEnum):
    """Codes of control messages."""

    STARTPOD = 1
    DESTROYPOD = 4
    EXECCMD = 6
    READY = 8
    ACK = 9
    ERROR = 10
    WINSIZE = 11
    PING = 12
    NEWCONTAINER = 17
    KILLCONTAINER = 18
    ONLINECPUMEM = 19
    SETUPINTERFACE = 20
    SETUPROUTE = 21
    REMOVECONTAINER = 22
    PROCESSEVENT = 23
    SIGNALPROCESS = 24
    DELETEINTERFACE = 25
    STARTCONTAINER = 26
    LISTPROCESSES = 27
    UPDATECONTAINER = 28
    FREEZECONTAINER = 29
    STATS = 30
    SETTIME = 31
    SETSERVICES = 32
    RENEWCONTAINER = 33
    LINEGRANT = 34


def encode_message(code: int, payload: dict[str, Any]) -> bytes:
    """A control message. Raises ProtocolError when it is over 4 MiB.

    Bytes that are no UTF-8, which Python keeps as U+DC80 to U+DCFF, are sent as
    escapes of these, and are bytes again in the guest.
    """
    text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    body = _LONE_SURROGATE.sub("\ufffd", text).encode(errors="backslashreplace")
    if len(body) + _HEADER.size > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(body)} bytes is over {MAX_MESSAGE}")
    return _HEADER.pack(code, len(body) + _HEADER.size) + body


class MessageDecoder:
    """Cuts the bytes of the control channel into (code, payload)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a message that has not come whole."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the messages that `data` completes. Raises ProtocolError."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            code, length = _HEADER.unpack_from(self._buffer)
            if not _HEADER.size <= length <= MAX_MESSAGE:
                raise ProtocolError(f"control message of {length} bytes")
            if len(self._buffer) < length:
                return
            body = bytes(self._buffer[_HEADER.size : length])
            del self._buffer[:length]
            yield code, _parse(body)


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"control message is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise ProtocolError("control message is not a JSON object")
    return payload


def encode_data(stream: int, data: bytes) -> bytes:
    """A data frame; empty data is the end of the stream."""
    return _FRAME.pack(stream, len(data)) + data


def encode_window(stream: int, count: int) -> bytes:
    """A frame that grants the guest `count` more bytes on `stream`."""
    return _FRAME.pack(stream | _WINDOW_BIT, 4) + count.to_bytes(4, "big")


class FrameDecoder:
    """Cuts the bytes of the stream channel into (stream, data) and (stream, granted count)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a frame that has not come whole."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | int]]:
        """Yield the frames that `data` completes. Raises ProtocolError."""
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            word, length = _FRAME.unpack_from(self._buffer)
            if length > MAX_DATA:
                raise ProtocolError(f"stream frame of {length} bytes")
            end = _FRAME.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_FRAME.size : end])
            del self._buffer[:end]
            stream = word & 0xFFFFFFFF
            if word & _WINDOW_BIT:
                yield stream, _granted(body)
            else:
                yield stream, body


def _granted(body: bytes) -> int:
    count = int.from_bytes(body, "big")
    if len(body) != 4 or count > _MAX_WINDOW:
        raise ProtocolError(f"window frame of {len(body)} bytes grants {count}")
    return count
