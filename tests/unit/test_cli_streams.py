"""Demultiplexing, detach keys, and the relay between files and a socket."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.cli.signals import SignalPipe
from hypercontainer.cli.stream import Relay
from hypercontainer.client.detach import DetachKeys, parse_keys
from hypercontainer.client.exchange import exchange
from hypercontainer.client.streams import Demultiplexer, RawStream
from hypercontainer.errors import BadRequest, HyperError


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def collect(frames: Demultiplexer, data: bytes) -> list[tuple[int, bytes]]:
    return [(stream, bytes(part)) for stream, part in frames.feed(data)]


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8),
    st.integers(1, 20),
)
def test_frames_are_put_together_however_they_are_cut(
    sent: list[tuple[int, bytes]], size: int
) -> None:
    wire = b"".join(frame(stream, data) for stream, data in sent)
    frames = Demultiplexer()
    got = {1: b"", 2: b""}
    for start in range(0, len(wire), size):
        for stream, part in collect(frames, wire[start : start + size]):
            got[stream] += part
    assert frames.clean
    for stream in (1, 2):
        assert got[stream] == b"".join(data for which, data in sent if which == stream)


@pytest.mark.parametrize("header", [b"\x00", b"\x03\0\0\0", b"\x01\0\x01\0", b"HTTP"])
def test_a_bad_frame_is_an_error(header: bytes) -> None:
    with pytest.raises(HyperError, match="bad stream frame"):
        collect(Demultiplexer(), header.ljust(8, b"\0"))


def test_a_torn_frame_shows() -> None:
    frames = Demultiplexer()
    assert collect(frames, frame(1, b"abc")[:-1]) == [(1, b"ab")]
    assert not frames.clean


@pytest.mark.parametrize(
    ("pieces", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11\x10", False),
    ],
)
def test_detach_keys(pieces: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(parse_keys(""))
    got = b""
    for piece in pieces:
        data, done = keys.feed(piece)
        got += data
    if not done:
        got += keys.end()
    assert (got, done) == (passed, detached)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-x", b"\x18"),
        ("CTRL-A,b", b"\x01b"),
        ("ctrl-[,ctrl-@,~", b"\x1b\x00~"),
    ],
)
def test_detach_keys_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-1", "ctrl-pq", "a,,b", "\u20ac", "alt-x"])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(BadRequest, match="detach keys: "):
        parse_keys(text)


def test_keys_that_begin_again_within_themselves() -> None:
    keys = DetachKeys(b"aab")
    assert [keys.feed(b"a") for _ in range(3)] == [(b"", False), (b"", False), (b"a", False)]
    assert keys.feed(b"b") == (b"", True)


@contextmanager
def process_socket() -> Iterator[tuple[RawStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with ours, theirs:
        yield RawStream(ours), theirs


def echo(sock: socket.socket) -> None:
    """A `cat` at the other end: frames of what it reads, until the end of stdin."""
    while data := sock.recv(30000):
        sock.sendall(frame(1, data))
    sock.sendall(frame(2, b"bye"))
    sock.shutdown(socket.SHUT_WR)


def never() -> None:
    raise AssertionError("it was to be killed")


def collected(stream: RawStream, input: bytes | None) -> tuple[bytes, bytes]:
    output = exchange(stream, input, limit=1 << 22, kill=never)
    assert not output.truncated
    return bytes(output.parts[1]), bytes(output.parts[2])


def test_exchange_keeps_no_more_than_the_limit() -> None:
    with process_socket() as (stream, theirs):
        theirs.sendall(frame(1, b"abc") + frame(2, b"xyz") + frame(1, b"defg"))
        theirs.shutdown(socket.SHUT_WR)
        output = exchange(stream, None, limit=5, kill=never)
        assert ([bytes(part) for part in output.parts.values()], output.truncated) == (
            [b"abcde", b"xyz"],
            True,
        )


def test_exchange_ends_what_takes_too_long() -> None:
    with process_socket() as (stream, theirs):
        theirs.sendall(frame(1, b"begun"))

        def kill() -> None:
            theirs.sendall(frame(2, b"killed"))
            theirs.shutdown(socket.SHUT_WR)

        output = exchange(stream, None, limit=100, timeout=0.1, kill=kill)
        assert ([bytes(part) for part in output.parts.values()], output.timed_out) == (
            [b"begun", b"killed"],
            True,
        )


def test_exchange_of_more_than_the_buffers_hold() -> None:
    data = os.urandom(1 << 21)
    with process_socket() as (stream, theirs):
        thread = threading.Thread(target=echo, args=(theirs,))
        thread.start()
        assert collected(stream, data) == (data, b"bye")
        thread.join(20)


def test_exchange_without_stdin_sends_no_end() -> None:
    with process_socket() as (stream, theirs):
        theirs.sendall(frame(1, b"x"))
        theirs.shutdown(socket.SHUT_WR)
        assert collected(stream, None) == (b"x", b"")
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_exchange_with_a_process_that_does_not_read() -> None:
    with process_socket() as (stream, theirs):
        theirs.shutdown(socket.SHUT_RD)
        theirs.sendall(frame(1, b"done"))
        theirs.shutdown(socket.SHUT_WR)
        assert collected(stream, b"z" * (1 << 20))[0] == b"done"


def test_early_bytes_come_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = RawStream(ours, frame(1, b"early ")[:9])
        theirs.sendall(frame(1, b"early ")[9:] + frame(1, b"late"))
        theirs.shutdown(socket.SHUT_WR)
        assert b"".join(data for _, data in stream.output()) == b"early late"


class Files:
    """Pipes in place of stdin and stdout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stdin, self.input = os.pipe()
        self.output, self._write = os.pipe()
        real = os.write

        def write(fd: int, data: bytes) -> int:
            return real(self._write if fd in (1, 2) else fd, data)

        monkeypatch.setattr("hypercontainer.cli.stream.os.write", write)

    def read(self) -> bytes:
        os.close(self._write)
        with os.fdopen(self.output, "rb") as file:
            return file.read()


def test_relay_carries_stdin_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(monkeypatch)
    with process_socket() as (stream, theirs), SignalPipe(()) as signals:
        thread = threading.Thread(target=echo, args=(theirs,))
        thread.start()
        os.write(files.input, b"123\n")
        os.close(files.input)
        relay = Relay(
            stream, tty=False, stdin=files.stdin, signals=signals, on_signal=lambda _: None
        )
        assert relay.run() is False
        thread.join(20)
    assert files.read() == b"123\nbye"


def test_relay_detaches_and_hands_signals_on(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(monkeypatch)
    seen: list[int] = []

    def on_signal(signum: int) -> None:
        seen.append(signum)
        os.write(files.input, b"ls\x10\x11rest")

    with process_socket() as (stream, theirs), SignalPipe((signal.SIGUSR1,)) as signals:
        theirs.sendall(b"\x01raw")
        signal.raise_signal(signal.SIGUSR1)
        relay = Relay(stream, tty=True, stdin=files.stdin, signals=signals, on_signal=on_signal)
        assert relay.run() is True
        assert theirs.recv(100) == b"ls"
    assert seen == [signal.SIGUSR1]
    assert files.read() == b"\x01raw"


def test_relay_leaves_out_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(monkeypatch)
    with process_socket() as (stream, theirs), SignalPipe(()) as signals:
        theirs.sendall(frame(1, b"out") + frame(2, b"err"))
        theirs.shutdown(socket.SHUT_WR)
        relay = Relay(
            stream,
            tty=False,
            stdin=None,
            signals=signals,
            on_signal=lambda _: None,
            outputs=(2,),
        )
        relay.run()
    assert files.read() == b"err"


def test_the_third_signal_ends_us(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with SignalPipe((signal.SIGTERM,)) as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.take() == [signal.SIGTERM] * 2
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
