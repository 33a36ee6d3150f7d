"""Streams of containers and execs by WebSocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.hyperd_process import Hyperd

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio]


@pytest_asyncio.fixture
async def session(hyperd: Hyperd) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(hyperd.socket))
    async with aiohttp.ClientSession("http://hyperd", connector=connector) as session:
        yield session


async def everything(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    """What comes until the other side closes."""
    output = b""
    async for message in socket:
        assert message.type == aiohttp.WSMsgType.BINARY
        output += message.data
    assert socket.close_code == 1000
    return output


def websocket(session: aiohttp.ClientSession, path: str, **params: str) -> Any:
    return session.ws_connect(path, params=params, max_msg_size=0)


async def test_without_stdin_nothing_is_cut_off(
    hyperd: Hyperd, session: aiohttp.ClientSession
) -> None:
    loop = "for i in 1 2 3; do echo $i; sleep 0.7; done"
    container = hyperd.create("sh", "-c", f"{loop}; echo err >&2; cat; exec sleep 1000")
    async with websocket(session, "/v1.17/attach/ws", container=container) as socket:
        hyperd.client.start_container(container)
        output = b""
        while b"err\n" not in output:
            output += (await socket.receive(30)).data
        assert output == b"1\n2\n3\nerr\n"
        exec_id = hyperd.client.create_exec(container, ["sh", "-c", loop], stdin=False)
        async with websocket(session, "/exec/ws", container=container, exec=exec_id) as second:
            assert await everything(second) == b"1\n2\n3\n"
        hyperd.client.kill_container(container)
        assert await everything(socket) == b""
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


async def test_stdin_its_end_and_frames(hyperd: Hyperd, session: aiohttp.ClientSession) -> None:
    container = hyperd.run("sh", "-c", "cat; echo ended; exec sleep 1000", stdin=True)
    data = bytes(range(256)) * 2000
    async with websocket(session, "/attach/ws", container=container, stdin="1") as socket:
        await socket.send_bytes(data)
        await socket.send_str("text")
        await socket.send_bytes(b"")
        output = b""
        while not output.endswith(b"ended\n"):
            output += (await socket.receive(30)).data
        assert output == data + b"textended\n"
    command = ["sh", "-c", "cat >&2; echo out"]
    exec_id = hyperd.client.create_exec(container, command, stdin=True)
    asked = {"container": container, "exec": exec_id, "frames": "1"}
    async with websocket(session, "/exec/ws", **asked) as socket:
        await socket.send_bytes(b"err")
        await socket.send_bytes(b"")
        assert await everything(socket) == (b"\2\0\0\0\0\0\0\3err" + b"\1\0\0\0\0\0\0\4out\n")
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


async def test_leaving_detaches(hyperd: Hyperd, session: aiohttp.ClientSession) -> None:
    container = hyperd.run("sh", "-c", "echo up; exec sleep 1000")
    for _ in range(3):
        async with websocket(session, "/attach/ws", container=container, logs="1") as socket:
            assert (await socket.receive(30)).data == b"up\n"
    assert hyperd.state_of(container)["Running"]
    async with websocket(session, "/attach/ws", container=container) as socket:
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(b"x" * (2 << 20))
        async with asyncio.timeout(30):
            async for _ in socket:
                pass
    assert hyperd.state_of(container)["Running"], "too large a message ends but its sender"
    hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


async def test_refusals(hyperd: Hyperd, session: aiohttp.ClientSession) -> None:
    container = hyperd.create("true")
    for headers, says in (
        ({}, "is a WebSocket"),
        ({"Origin": "http://x"}, "web pages are refused"),
    ):
        url = f"/attach/ws?container={container}"
        async with session.get(url, headers=headers) as refused:
            assert refused.status == 400
            assert says in (await refused.json())["message"]
    for path, status in (
        (f"/exec/ws?container={container}&exec=nonsense", 404),
        ("/attach/ws?container=nonsense", 404),
        (f"/attach/ws?container={container}&nonsense=1", 400),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(path)
        assert error.value.status == status
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await session.ws_connect(f"/attach/ws?container={container}", origin="http://x")
    hyperd.client.remove_container(container)
