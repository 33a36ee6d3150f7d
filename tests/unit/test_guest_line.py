"""What may be under way in a port that holds little."""

import asyncio
import socket
from typing import Any

import pytest

from hypercontainer.guest import protocol
from hypercontainer.guest.connection import ControlConnection
from hypercontainer.guest.protocol import Code, ProtocolError
from hypercontainer.guest.streams import StreamChannel

READY = {"protocol": protocol.VERSION, "window": 100}


async def received(sock: socket.socket, count: int) -> bytes:
    """What has come, which is to be `count` bytes and no more in a while."""
    loop, got = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while len(got) < count:
            got += await loop.sock_recv(sock, 1 << 20)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            got += await loop.sock_recv(sock, 1)
    assert len(got) == count
    return got


async def test_no_more_than_the_window_is_under_way_on_both_channels() -> None:
    broken: list[str] = []
    (ours, theirs), (our_streams, their_streams) = socket.socketpair(), socket.socketpair()
    for sock in (theirs, their_streams):
        sock.setblocking(False)
    control = await ControlConnection.open(ours, lambda event: None, broken.append)
    streams = await StreamChannel.open(our_streams, broken.append)
    theirs.send(protocol.encode_message(Code.READY, READY))
    streams.bound(await control.ready)

    asking = asyncio.create_task(control.request(Code.PING, {"x": "y" * 200}, timeout=5))
    whole = protocol.encode_message(Code.PING, {"seq": 1, "x": "y" * 200})
    got = await received(theirs, 100)
    theirs.send(protocol.encode_message(Code.LINEGRANT, {"count": 60}))
    got += await received(theirs, 60)
    theirs.send(protocol.encode_message(Code.LINEGRANT, {"count": 100}))
    assert got + await received(theirs, len(whole) - 160) == whole
    theirs.send(protocol.encode_message(Code.ACK, {"seq": 1}))
    await asking

    streams.input(7).write(b"z" * 200)
    whole = protocol.encode_data(7, b"z" * 200)
    got = await received(their_streams, 100)
    their_streams.send(protocol.encode_window(0, 50))
    got += await received(their_streams, 50)
    their_streams.send(protocol.encode_window(0, 100))
    assert got + await received(their_streams, len(whole) - 150) == whole
    assert not broken
    under_way = len(whole) - 150
    their_streams.send(protocol.encode_window(0, under_way + 1))
    await asyncio.sleep(0.02)
    assert broken == [f"the guest broke the protocol: a port was granted {under_way + 1} bytes"]
    for end in (theirs, their_streams):
        end.close()


@pytest.mark.parametrize("window", [-1, 65537, "100", None, [1]])
async def test_a_window_that_is_none_breaks_the_protocol(window: Any) -> None:
    broken: list[str] = []
    ours, theirs = socket.socketpair()
    control = await ControlConnection.open(ours, lambda event: None, broken.append)
    theirs.send(protocol.encode_message(Code.READY, {**READY, "window": window}))
    with pytest.raises(Exception, match="a window of"):
        await asyncio.wait_for(control.ready, 5)
    assert len(broken) == 1
    theirs.close()


async def test_a_port_without_a_window_is_granted_nothing() -> None:
    streams = StreamChannel(print)
    with pytest.raises(ProtocolError):
        streams._port.granted(1)
