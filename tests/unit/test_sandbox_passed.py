"""Streams on descriptors that a caller passed: files keep their position, readers may stall."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.guest import protocol
from hypercontainer.guest.protocol import FrameDecoder
from hypercontainer.guest.streams import StreamChannel
from hypercontainer.sandbox.containers import Process
from hypercontainer.sandbox.passed import Streams


class Guest:
    """A guest that sends on the streams of one process and gets its stdin."""

    def __init__(self, channel: StreamChannel, sock: socket.socket) -> None:
        self.process = Process(channel, "init", terminal=False, stdin=True, hold=False)
        self._sock = sock
        self._decoder = FrameDecoder()
        self.granted: dict[int, int] = {}
        self.stdin = b""
        self.stdin_ended = False

    async def send(self, number: int | None, data: bytes) -> None:
        assert number is not None
        frame = protocol.encode_data(number, data)
        await asyncio.get_running_loop().sock_sendall(self._sock, frame)

    async def receive(self) -> None:
        while data := await asyncio.get_running_loop().sock_recv(self._sock, 1 << 20):
            for number, content in self._decoder.feed(data):
                if isinstance(content, int):
                    self.granted[number] = self.granted.get(number, 0) + content
                else:
                    self.stdin += content
                    self.stdin_ended |= not content


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    channel = await StreamChannel.open(ours, lambda reason: None)
    peer = Guest(channel, theirs)
    receiving = asyncio.create_task(peer.receive())
    yield peer
    receiving.cancel()
    theirs.close()
    await asyncio.sleep(0.01)


async def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_stdout_and_stderr_in_one_file_do_not_overwrite_each_other(
    guest: Guest, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        streams = Streams(guest.process, ["stdout", "stderr"], [file.fileno()] * 2)
        streams.begin()
        for number in (guest.process.stdio, guest.process.stderr) * 2:
            await guest.send(number, b"line\n")
        for number in (guest.process.stdio, guest.process.stderr):
            await guest.send(number, b"")
        await asyncio.wait_for(streams.flush(), 5)
    assert path.read_bytes() == b"before\n" + b"line\n" * 4


async def test_stdin_from_a_file_goes_on_from_its_position(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"header\nbody\n")
    with path.open("rb", buffering=0) as file:
        file.seek(7)
        streams = Streams(guest.process, ["stdin"], [file.fileno()])
        feeding = streams.begin()
        assert feeding is not None
        await until(lambda: guest.stdin_ended)
        await feeding
    assert guest.stdin == b"body\n"


async def test_a_pipe_that_nobody_reads_stops_its_own_stream_only(guest: Guest) -> None:
    stalled_read, stalled_write = os.pipe()
    free_read, free_write = os.pipe()
    os.set_blocking(free_read, False)
    streams = Streams(guest.process, ["stdout", "stderr"], [stalled_write, free_write])
    streams.begin()
    stdout, stderr = guest.process.stdio, guest.process.stderr
    assert stderr is not None
    total = 4 << 20
    sent = {stdout: 0, stderr: 0}
    read = 0
    async with asyncio.timeout(20):
        while read < total:
            for number in (stdout, stderr):
                window = protocol.INITIAL_WINDOW + guest.granted.get(number, 0) - sent[number]
                size = min(window, 16384)
                if size:
                    await guest.send(number, bytes(size))
                    sent[number] += size
            try:
                read += len(os.read(free_read, 1 << 20))
            except BlockingIOError:
                pass
            await asyncio.sleep(0)
    assert sent[stdout] <= 4 * protocol.INITIAL_WINDOW
    assert guest.granted[stderr] > total // 2
    os.close(stalled_read)
    await guest.send(stdout, b"")
    await guest.send(stderr, b"")
    await asyncio.wait_for(streams.flush(), 5)
    for fd in (stalled_write, free_read, free_write):
        os.close(fd)


async def test_a_reader_that_is_gone_does_not_hold_the_process_up(guest: Guest) -> None:
    read, write = os.pipe()
    streams = Streams(guest.process, ["stdout"], [write])
    streams.begin()
    os.close(read)
    os.close(write)
    for _ in range(4):
        await guest.send(guest.process.stdio, bytes(16384))
    await until(lambda: guest.granted.get(guest.process.stdio, 0) >= 3 * 16384)


async def test_a_pipe_stays_blocking_for_its_other_holders(guest: Guest) -> None:
    read, write = os.pipe()
    streams = Streams(guest.process, ["stdin", "stdout"], [read, write])
    assert os.get_blocking(read)
    assert os.get_blocking(write)
    feeding = streams.begin()
    assert feeding is not None
    feeding.cancel()
    os.close(read)
    os.close(write)
