"""Log drivers that send, against real sockets."""

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.sandbox import logreceivers
from hypercontainer.sandbox.logs import open_log

pytestmark = pytest.mark.timeout(30)


def syslog(network: str, address: object, **more: object) -> dict[str, Any]:
    remote = {"type": "syslog", "network": network, "address": address, "facility": 3}
    return {"path": "", "remote": {**remote, "format": "", "tag": "box", **more}}


def datagrams(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.settimeout(10)
    return listener


async def received(listener: socket.socket) -> bytes:
    return await asyncio.to_thread(listener.recv, 1 << 20)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d box\[\d+\]: one"),
        ("rfc3164", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ box\[\d+\]: one"),
        ("rfc5424", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ box \d+ box - one"),
        ("rfc5424micro", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ box \d+ box - one"),
    ],
)
async def test_formats_of_syslog(tmp_path: Path, kind: str, pattern: bytes) -> None:
    with datagrams(tmp_path / "log") as listener:
        log = await open_log(syslog("unixgram", str(tmp_path / "log"), format=kind))
        log.write(1, b"one\ntwo")
        assert re.fullmatch(pattern, await received(listener))
        log.write(2, b"failed\n")
        assert (await received(listener)).startswith(b"<27>")
        log.end(1)
        assert (await received(listener)).endswith(b"two")
        await log.close()


async def test_udp_and_local_file_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        wanted = syslog("udp", listener.getsockname())
        log = await open_log({**wanted, "path": str(tmp_path / "copy")})
        log.write(1, b"over udp\n")
        assert (await received(listener)).endswith(b": over udp")
        await log.close()
    assert '"over udp\\n"' in (tmp_path / "copy").read_text()


async def test_a_stream_that_breaks_is_opened_again_and_nothing_waits_for_it() -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while line := await reader.readline():
            lines.put_nowait(line)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    log = await open_log(syslog("tcp", [host, port]))
    log.write(1, b"first\n")
    assert (await lines.get()).endswith(b": first\n")
    server.close()
    writers[0].transport.abort()
    await server.wait_closed()
    for number in range(20):
        log.write(1, b"while away %d\n" % number)
        await asyncio.sleep(0.01)
    server = await asyncio.start_server(serve, host, port)
    async with asyncio.timeout(15):
        while not (await lines.get()).endswith(b": while away 19\n"):
            pass
    await log.close()
    server.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match=r"receiver .*/none: no such file or directory: start it"):
        await open_log(syslog("unix", str(tmp_path / "none")))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(HyperError, match=r"tcp://127\.0\.0\.1:\d+: connection refused"):
            await open_log(syslog("tcp", closed.getsockname()))


async def test_a_receiver_that_does_not_read_loses_lines_and_is_told(tmp_path: Path) -> None:
    with datagrams(tmp_path / "log") as listener:
        log = await open_log(syslog("unixgram", str(tmp_path / "log"), limit=10_000))
        for number in range(2000):
            log.write(1, b"line %d\n" % number)
        await asyncio.sleep(0)
        seen: list[bytes] = []
        while not seen or b"were lost" not in seen[-1]:
            seen.append(await received(listener))
        lost = re.search(rb"hyper: (\d+) log messages were lost", seen[-1])
        assert lost
        assert int(lost[1]) + len(seen) - 1 == 2000
        assert [re.search(rb"line (\d+)", s) is not None for s in seen[:-1]] == [True] * (
            len(seen) - 1
        )
        await log.close()


async def test_the_journals_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logreceivers, "JOURNAL", str(tmp_path / "socket"))
    fields = {"CONTAINER_NAME": "box", "LABEL": "two\nlines"}
    with datagrams(tmp_path / "socket") as listener:
        log = await open_log({"path": "", "remote": {"type": "journald", "fields": fields}})
        log.write(1, b"hello\n" + b"x" * 17_000)
        assert await received(listener) == (
            b"CONTAINER_NAME=box\nLABEL\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=6\nMESSAGE=hello\n"
        )
        long = await received(listener)
        assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in long
        assert long.endswith(b"x" * 16384 + b"\n")
        await log.close()
