"""The control channel: answers find their requests, errors their classes, breakage everybody."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypercontainer.errors import (
    BadRequest,
    Conflict,
    HyperError,
    NotFound,
    NotSupported,
    ProgramError,
    VMError,
)
from hypercontainer.guest import protocol
from hypercontainer.guest.connection import ControlConnection
from hypercontainer.guest.protocol import Code, MessageDecoder


class Guest:
    """The guest's end of the control channel, played by the test."""

    def __init__(self, sock: socket.socket) -> None:
        self.connection: ControlConnection
        self.events: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self._sock = sock
        self._decoder = MessageDecoder()
        self._messages: list[tuple[int, dict[str, Any]]] = []

    async def raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def send(self, code: int, /, **payload: Any) -> None:
        await self.raw(protocol.encode_message(code, payload))

    async def next(self) -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(5):
            while not self._messages:
                data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 20)
                self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    def request(self, timeout: float = 5.0) -> "asyncio.Task[dict[str, Any]]":
        return asyncio.create_task(self.connection.request(Code.PING, timeout=timeout))

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    peer = Guest(theirs)
    peer.connection = await ControlConnection.open(ours, peer.events.append, peer.broken.append)
    yield peer
    peer.close()
    await peer.settle()


async def test_answers_may_come_in_another_order(guest: Guest) -> None:
    first, second = guest.request(), guest.request()
    one, two = (await guest.next())[1]["seq"], (await guest.next())[1]["seq"]
    await guest.send(Code.ACK, seq=two, which="two")
    await guest.send(Code.ACK, seq=one, which="one")
    assert (await first)["which"] == "one"
    assert (await second)["which"] == "two"


@pytest.mark.parametrize("seq", [0, 99, "1", None, 1.0, [1], {"a": 1}])
async def test_an_answer_to_nothing_is_dropped(guest: Guest, seq: object) -> None:
    waiting = guest.request()
    real = (await guest.next())[1]["seq"]
    if seq != real:
        await guest.send(Code.ACK, seq=seq)
    await guest.send(Code.ERROR, seq=12345, code=3, message="x")
    await guest.send(Code.ACK, seq=real, ok=True)
    assert (await waiting)["ok"] is True


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (3, NotFound, 125),
        (17, Conflict, 125),
        (22, BadRequest, 125),
        (38, NotSupported, 125),
        (125, HyperError, 125),
        (126, ProgramError, 126),
        (127, ProgramError, 127),
        (4242, HyperError, 125),
        ("127", HyperError, 125),
        (None, HyperError, 125),
    ],
)
async def test_errors_of_the_guest(
    guest: Guest, code: object, kind: type[HyperError], exit_code: int
) -> None:
    waiting = guest.request()
    seq = (await guest.next())[1]["seq"]
    await guest.send(Code.ERROR, seq=seq, code=code, message='exec: "x": not found')
    with pytest.raises(kind) as caught:
        await waiting
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert "not found" in caught.value.message


async def test_a_text_of_the_guest_is_bounded_and_printable(guest: Guest) -> None:
    waiting = guest.request()
    seq = (await guest.next())[1]["seq"]
    await guest.send(Code.ERROR, seq=seq, code=22, message="\x1b[31m\n" + "x" * 100_000)
    with pytest.raises(BadRequest) as caught:
        await waiting
    assert len(caught.value.message) <= 4096
    assert caught.value.message.isprintable()


async def test_no_answer_in_time(guest: Guest) -> None:
    with pytest.raises(VMError, match="did not answer PING"):
        await guest.connection.request(Code.PING, timeout=0.05)


async def test_the_greeting(guest: Guest) -> None:
    await guest.send(Code.READY, protocol=1, version="9", kernel="6.1")
    assert (await guest.connection.ready)["kernel"] == "6.1"
    await guest.send(Code.READY, protocol=7)
    await guest.settle()
    assert guest.broken == []


@pytest.mark.parametrize("version", [0, 2, "1", None, {}])
async def test_another_version_is_refused_with_both(guest: Guest, version: object) -> None:
    await guest.send(Code.READY, protocol=version)
    with pytest.raises(VMError, match=r"protocol .*this host 1") as caught:
        await asyncio.wait_for(asyncio.shield(guest.connection.ready), 5)
    assert str(version)[:20] in caught.value.message
    assert "make initrd" in caught.value.message


async def test_events_are_passed_on(guest: Guest) -> None:
    await guest.send(Code.PROCESSEVENT, container="c", process="init", code=0)
    await guest.settle()
    assert guest.events == [{"container": "c", "process": "init", "code": 0}]


async def test_unknown_codes_are_ignored(guest: Guest) -> None:
    await guest.send(4242, a=1)
    await guest.send(Code.NEWCONTAINER, seq=1)
    waiting = guest.request()
    await guest.send(Code.ACK, seq=(await guest.next())[1]["seq"])
    await waiting


@pytest.mark.parametrize("garbage", [b"\xff" * 8, struct.pack(">II", 9, 10) + b"[]"])
async def test_garbage_breaks_the_channel_for_all_and_is_told(guest: Guest, garbage: bytes) -> None:
    waiting = [guest.request(), guest.request()]
    await guest.next()
    await guest.raw(garbage)
    for task in waiting:
        with pytest.raises(VMError, match="broke the protocol"):
            await task
    with pytest.raises(VMError, match="broke the protocol"):
        await guest.connection.request(Code.PING, timeout=1)
    assert len(guest.broken) == 1
    assert "broke the protocol" in guest.broken[0]


async def test_the_loss_of_the_vm_reaches_every_waiter(guest: Guest) -> None:
    waiting = guest.request()
    await guest.next()
    guest.close()
    with pytest.raises(VMError, match="gone"):
        await waiting
    assert guest.broken == []


async def test_a_request_that_is_too_large_is_the_callers_fault(guest: Guest) -> None:
    with pytest.raises(BadRequest, match="too large"):
        await guest.connection.request(Code.NEWCONTAINER, {"x": "y" * (5 << 20)}, timeout=1)
