"""Messages and frames: what a sane guest sends comes through whole, the rest is refused."""

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercontainer.guest import protocol
from hypercontainer.guest.protocol import Code, FrameDecoder, MessageDecoder, ProtocolError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PAYLOADS = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT)
)
FRAMES = st.tuples(
    st.integers(1, protocol.MAX_STREAM), st.binary(max_size=300) | st.integers(0, 1 << 30)
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at `cuts`, taken modulo its length."""
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def encoded(frames: list[tuple[int, bytes | int]]) -> bytes:
    return b"".join(
        protocol.encode_window(number, content)
        if isinstance(content, int)
        else protocol.encode_data(number, content)
        for number, content in frames
    )


def message(body: bytes, code: int = Code.ACK) -> bytes:
    return struct.pack(">II", code, len(body) + 8) + body


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), PAYLOADS), max_size=5), st.lists(st.integers(0))
)
@settings(deadline=None)
def test_messages_survive_any_split(
    messages: list[tuple[int, dict[str, object]]], cuts: list[int]
) -> None:
    data = b"".join(protocol.encode_message(code, payload) for code, payload in messages)
    decoder = MessageDecoder()
    assert [m for piece in pieces(data, cuts) for m in decoder.feed(piece)] == messages


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0)))
@settings(deadline=None)
def test_frames_survive_any_split(frames: list[tuple[int, bytes | int]], cuts: list[int]) -> None:
    decoder = FrameDecoder()
    data = encoded(frames)
    assert [f for piece in pieces(data, cuts) for f in decoder.feed(piece)] == frames


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_garbage_is_refused_or_waited_for_but_never_anything_else(data: bytes) -> None:
    for decoder in (MessageDecoder(), FrameDecoder()):
        try:
            for item in decoder.feed(data):
                assert isinstance(item, tuple)
        except ProtocolError:
            pass


def test_an_empty_body_is_an_empty_object() -> None:
    assert list(MessageDecoder().feed(message(b""))) == [(Code.ACK, {})]


def test_an_unknown_code_is_passed_on() -> None:
    assert list(MessageDecoder().feed(message(b"{}", 4242))) == [(4242, {})]


@pytest.mark.parametrize("length", [0, 7, protocol.MAX_MESSAGE + 1, 2**32 - 1])
def test_a_length_outside_the_bounds_is_refused_by_the_header_alone(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"{length} bytes"):
        list(MessageDecoder().feed(struct.pack(">II", Code.ACK, length)))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\xfd",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=["cut", "array", "null", "string", "not-utf8", "huge-number", "deep-array", "deep-object"],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(MessageDecoder().feed(message(body)))


def test_the_largest_message_passes_and_one_more_byte_does_not() -> None:
    room = protocol.MAX_MESSAGE - 8 - len(json.dumps({"a": ""}, separators=(",", ":")))
    whole = protocol.encode_message(Code.NEWCONTAINER, {"a": "x" * room})
    assert len(whole) == protocol.MAX_MESSAGE
    assert len(list(MessageDecoder().feed(whole))) == 1
    with pytest.raises(ProtocolError, match="over"):
        protocol.encode_message(Code.NEWCONTAINER, {"a": "x" * (room + 1)})


def test_bytes_that_are_no_text_stay_bytes_and_the_message_stays_utf8() -> None:
    """An argument of a command line can hold any bytes; the guest takes JSON in UTF-8 only."""
    odd = b"A=\xff\xfe\xe2\x82\xac".decode(errors="surrogateescape")
    data = protocol.encode_message(Code.EXECCMD, {"env": [odd, "B=\ud83d"]})
    assert data[8:].decode("utf-8") == '{"env":["A=\\udcff\\udcfe\u20ac","B=\ufffd"]}'


@pytest.mark.parametrize("length", [protocol.MAX_DATA + 1, 2**32 - 1])
def test_an_oversize_frame_is_refused_by_its_header(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"{length} bytes"):
        list(FrameDecoder().feed(struct.pack(">QI", 1, length)))


def test_the_largest_frame_passes() -> None:
    data = bytes(protocol.MAX_DATA)
    assert list(FrameDecoder().feed(protocol.encode_data(7, data))) == [(7, data)]


@pytest.mark.parametrize("body", [b"", b"abc", b"abcde", b"\x7f\xff\xff\xff"])
def test_a_window_frame_needs_four_bytes_and_a_sane_count(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="window"):
        list(FrameDecoder().feed(struct.pack(">QI", 1 | 1 << 63, len(body)) + body))


def test_what_is_complete_comes_before_the_error() -> None:
    decoder = FrameDecoder()
    found = []
    with pytest.raises(ProtocolError):
        for item in decoder.feed(protocol.encode_data(1, b"x") + b"\xff" * 12):
            found.append(item)
    assert found == [(1, b"x")]
