"""Flow control: a stream never gets ahead of its window, and none stops another."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from hypercontainer.guest import protocol
from hypercontainer.guest.protocol import INITIAL_WINDOW, FrameDecoder
from hypercontainer.guest.streams import StreamChannel


class Guest:
    """The guest's end of a stream channel, played by the test."""

    def __init__(self, channel: StreamChannel, sock: socket.socket, broken: list[str]) -> None:
        self.channel = channel
        self.broken = broken
        self._sock = sock
        self._decoder = FrameDecoder()
        self._frames: list[tuple[int, bytes | int]] = []

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)
        await asyncio.sleep(0)

    async def frames(self, count: int) -> list[tuple[int, bytes | int]]:
        async with asyncio.timeout(5):
            while len(self._frames) < count:
                data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 20)
                self._frames += self._decoder.feed(data)
        taken, self._frames = self._frames[:count], self._frames[count:]
        return taken

    async def nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.get_running_loop().sock_recv(self._sock, 1)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    broken: list[str] = []
    channel = await StreamChannel.open(ours, broken.append)
    peer = Guest(channel, theirs, broken)
    yield peer
    peer.close()
    await peer.settle()


async def test_output_comes_as_sent_and_the_end_after_it(guest: Guest) -> None:
    got: list[bytes] = []
    stream = guest.channel.output(guest.channel.new_number())
    stream.on_data = got.append
    await guest.send(protocol.encode_data(1, b"hello") + protocol.encode_data(1, b""))
    await guest.settle()
    assert got == [b"hello", b""]
    assert stream.ended


async def test_data_after_the_end_is_dropped(guest: Guest) -> None:
    got: list[bytes] = []
    guest.channel.output(1).on_data = got.append
    frames = protocol.encode_data(1, b"") + protocol.encode_data(1, b"x" * 65536) * 3
    await guest.send(frames)
    await guest.settle()
    assert got == [b""]
    assert guest.broken == []


async def test_frames_of_unknown_streams_are_dropped(guest: Guest) -> None:
    frames = protocol.encode_data(99, b"x") + protocol.encode_window(98, 10)
    await guest.send(frames + protocol.encode_data(0, b""))
    await guest.settle()
    assert guest.broken == []


async def test_a_whole_window_passes_and_one_byte_more_breaks_the_protocol(guest: Guest) -> None:
    stream = guest.channel.output(1)
    seen = 0

    def take(data: bytes) -> None:
        nonlocal seen
        seen += len(data)

    stream.on_data = take
    for _ in range(4):
        await guest.send(protocol.encode_data(1, bytes(INITIAL_WINDOW // 4)))
    await guest.settle()
    assert (seen, guest.broken) == (INITIAL_WINDOW, [])
    await guest.send(protocol.encode_data(1, b"x"))
    await guest.settle()
    assert guest.broken == ["the guest broke the protocol: stream 1 overran its window"]


async def test_grants_are_collected_and_give_the_guest_exactly_that_much(guest: Guest) -> None:
    stream = guest.channel.output(1)
    await guest.send(protocol.encode_data(1, bytes(INITIAL_WINDOW)))
    await guest.settle()
    quarter = INITIAL_WINDOW // 4
    stream.grant(quarter - 1)
    await guest.nothing()
    stream.grant(1)
    assert await guest.frames(1) == [(1, quarter)]
    await guest.send(protocol.encode_data(1, bytes(quarter)))
    await guest.settle()
    assert guest.broken == []
    await guest.send(protocol.encode_data(1, b"x"))
    await guest.settle()
    assert len(guest.broken) == 1


async def test_an_ended_stream_is_granted_nothing(guest: Guest) -> None:
    stream = guest.channel.output(1)
    await guest.send(protocol.encode_data(1, bytes(INITIAL_WINDOW)) + protocol.encode_data(1, b""))
    await guest.settle()
    stream.grant(INITIAL_WINDOW)
    await guest.nothing()


async def test_one_stream_that_is_not_granted_does_not_stop_another(guest: Guest) -> None:
    stalled, free = guest.channel.output(1), guest.channel.output(2)
    total = 0

    def take(data: bytes) -> None:
        nonlocal total
        total += len(data)
        free.grant(len(data))

    free.on_data = take
    await guest.send(protocol.encode_data(1, bytes(INITIAL_WINDOW)))
    window = INITIAL_WINDOW
    for _ in range(64):
        if window < 16384:
            window += sum(int(count) for _, count in await guest.frames(1))
        await guest.send(protocol.encode_data(2, bytes(16384)))
        window -= 16384
    await guest.settle()
    assert total == 64 * 16384
    assert guest.broken == []
    assert not stalled.ended


async def test_input_stops_at_the_window_and_goes_on_as_granted(guest: Guest) -> None:
    stream = guest.channel.input(1)
    assert await stream.writable() == INITIAL_WINDOW
    stream.write(bytes(INITIAL_WINDOW))
    assert len(await guest.frames(1)) == 1
    waiting = asyncio.create_task(stream.writable())
    await guest.settle()
    assert not waiting.done()
    await guest.send(protocol.encode_window(1, 100))
    assert await asyncio.wait_for(waiting, 5) == 100


async def test_a_guest_can_not_grant_more_than_it_took(guest: Guest) -> None:
    """Else a guest that does not read makes the host keep all of stdin in memory."""
    guest.channel.input(1)
    await guest.send(protocol.encode_window(1, 1 << 30))
    await guest.settle()
    assert len(guest.broken) == 1
    assert "window" in guest.broken[0]


async def test_the_end_of_input_needs_no_window(guest: Guest) -> None:
    stream = guest.channel.input(1)
    stream.write(bytes(INITIAL_WINDOW))
    stream.close()
    stream.close()
    stream.write(b"late")
    frames = await guest.frames(2)
    assert frames[1] == (1, b"")
    await guest.nothing()
    assert await stream.writable() == 0


async def test_writers_wake_when_the_process_is_over(guest: Guest) -> None:
    stream = guest.channel.input(1)
    stream.write(bytes(INITIAL_WINDOW))
    waiting = asyncio.create_task(stream.writable())
    await guest.settle()
    stream.abandon()
    assert await asyncio.wait_for(waiting, 5) == 0


async def test_the_loss_of_the_channel_ends_every_stream(guest: Guest) -> None:
    ends: list[int] = []
    for number in (1, 2):
        guest.channel.output(number).on_data = lambda data, n=number: ends.append(n)  # type: ignore[misc]
    target = guest.channel.input(3)
    guest.close()
    await guest.settle()
    assert ends == [1, 2]
    assert target.closed


async def test_numbers_are_never_used_twice(guest: Guest) -> None:
    numbers = [guest.channel.new_number() for _ in range(5)]
    for number in numbers:
        guest.channel.output(number)
        guest.channel.forget(number)
    assert guest.channel.new_number() not in numbers
