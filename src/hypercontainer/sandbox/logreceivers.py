"""Log drivers that send: syslog (RFC 3164 and 5424) and systemd's journal (its native protocol).

What is written while a receiver is away waits in memory up to a limit, and is
lost beyond it; a container is never held up.
"""

import asyncio
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import BadRequest, HyperError
from .stdio import STDERR

JOURNAL = "/run/systemd/journal/socket"
_LOCAL_SYSLOG = ("/dev/log", "/var/run/syslog", "/var/run/log")
_CONNECT_BOUND = 10.0
_FLUSH_BOUND = 3.0
_RETRY = 1.0
_LIMIT = 1 << 20
_ERROR, _INFO = 3, 6

Formatter = Callable[[int, bytes, int], bytes]


async def open_receiver(wanted: Mapping[str, Any]) -> "Receiver":
    """The receiver that `wanted` describes, connected.

    `type` is `journald` (with `fields`) or `syslog` (with `network`, `address`,
    `facility`, `format`, `tag`); `limit` is in bytes. Raises HyperError.
    """
    if wanted["type"] == "journald":
        fields = _field_lines(wanted["fields"])
        receiver = Receiver("unixgram", JOURNAL, lambda *entry: _journal_entry(fields, *entry))
    elif wanted["type"] == "syslog":
        network = wanted["network"]
        receiver = Receiver(network, wanted["address"], _syslog_formatter(wanted, network))
    else:
        raise BadRequest(f"log driver {wanted['type']!r} is not known")
    receiver.limit = int(wanted.get("limit") or _LIMIT)
    await receiver.open()
    return receiver


class Receiver:
    """A socket that log lines are sent to, with a queue before it."""

    def __init__(self, network: str, address: Any, format: Formatter) -> None:
        self.limit = _LIMIT
        self.lost = 0
        self._network = network
        self._address = address
        self._format = format
        self._socket: socket.socket | None = None
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._some = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises HyperError when nobody is there."""
        try:
            self._socket = await self._connect()
        except (OSError, TimeoutError) as error:
            why = os.strerror(error.errno) if error.errno else str(error) or "time-out"
            raise HyperError(
                f"connect to the log's receiver {self._name()}: {why.lower()}: start it, or use"
                " another log driver"
            ) from error
        self._task = asyncio.create_task(self._send_all())

    def _name(self) -> str:
        if isinstance(self._address, str):
            return self._address or "/dev/log"
        host, port = self._address
        return f"{self._network}://{host}:{port}"

    async def _connect(self) -> socket.socket:
        async with asyncio.timeout(_CONNECT_BOUND):
            if self._network == "local":
                return await self._connect_local()
            if self._network in ("unix", "unixgram"):
                return await _connected(socket.AF_UNIX, _kind(self._network), self._address)
            loop, kind = asyncio.get_running_loop(), _kind(self._network)
            host, port = self._address
            error: OSError | None = None
            for family, _, _, _, address in await loop.getaddrinfo(host, port, type=kind):
                try:
                    return await _connected(family, kind, address)
                except OSError as failed:
                    error = failed
            raise error or OSError("no address")

    async def _connect_local(self) -> socket.socket:
        """Any local syslog, by datagrams or as a stream."""
        error: OSError | None = None
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            for path in _LOCAL_SYSLOG:
                try:
                    connected = await _connected(socket.AF_UNIX, kind, path)
                except OSError as failed:
                    error = error or failed
                else:
                    self._network = "unix" if kind == socket.SOCK_STREAM else "unixgram"
                    self._address = path
                    return connected
        raise error or OSError("no syslog here")

    def write(self, which: int, entries: list[bytes], when: int) -> None:
        """Part of Driver."""
        stream = _kind(self._network) == socket.SOCK_STREAM
        for entry in entries:
            message = self._format(which, entry, when) + (b"\n" if stream else b"")
            if self._size + len(message) > self.limit:
                self.lost += 1
                continue
            self._queue.append(message)
            self._size += len(message)
        self._some.set()

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                if self._closing:
                    return
                self._some.clear()
                await self._some.wait()
            try:
                if self._socket is None:
                    self._socket = await self._connect()
                await loop.sock_sendall(self._socket, self._queue[0])
            except (OSError, TimeoutError) as error:
                if isinstance(error, OSError) and error.errno in _UNSENDABLE:
                    self.lost += 1
                else:
                    self._disconnect()
                    await asyncio.sleep(_RETRY)
                    continue
            self._size -= len(self._queue.popleft())
            if self.lost and not self._queue:
                self._tell_loss()

    def _tell_loss(self) -> None:
        lost, self.lost = self.lost, 0
        text = f"{lost} log messages were lost: the receiver was too slow, or away"
        sys.stderr.write(f"{self._name()}: {text}\n")
        self.write(STDERR, [f"hyper: {text}\n".encode()], time.time_ns())

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def close(self) -> None:
        """Send what waits, for a few seconds."""
        self._closing = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_FLUSH_BOUND)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._disconnect()


_UNSENDABLE = (90,)
"""EMSGSIZE: sending it again would not help."""


def _kind(network: str) -> socket.SocketKind:
    return socket.SOCK_STREAM if network in ("tcp", "unix") else socket.SOCK_DGRAM


async def _connected(family: int, kind: socket.SocketKind, address: Any) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


# syslog


def _syslog_formatter(wanted: Mapping[str, Any], network: str) -> Formatter:
    facility, tag = int(wanted["facility"]), str(wanted["tag"]).encode()
    kind, host, pid = wanted["format"], socket.gethostname().encode(), b"%d" % os.getpid()

    def format(which: int, entry: bytes, when: int) -> bytes:
        priority = b"<%d>" % (facility * 8 + (_ERROR if which == STDERR else _INFO))
        text = entry.rstrip(b"\n")
        if kind in ("rfc5424", "rfc5424micro"):
            stamp = _rfc3339(when, micro=kind == "rfc5424micro")
            return b" ".join((priority + b"1", stamp, host, tag, pid, tag, b"-", text))
        stamp = _old_stamp(when)
        middle = host + b" " if kind == "rfc3164" else b""
        return b"%s%s %s%s[%s]: %s" % (priority, stamp, middle, tag, pid, text)

    return format


def _old_stamp(when: int) -> bytes:
    """As RFC 3164 has it: `Nov  5 16:20:00`, local time, English whatever the locale."""
    local = time.localtime(when // 10**9)
    month = ("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()[local.tm_mon - 1]
    return f"{month} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}".encode()


def _rfc3339(when: int, *, micro: bool) -> bytes:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when // 10**9))
    fraction = f".{when % 10**9 // 1000:06d}" if micro else ""
    return f"{whole}{fraction}Z".encode()


# The journal's native protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL


def _field_lines(fields: Mapping[str, str]) -> bytes:
    return b"".join(_field(name.encode(), value.encode()) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


def _journal_entry(fields: bytes, which: int, entry: bytes, when: int) -> bytes:
    priority = _field(b"PRIORITY", b"%d" % (_ERROR if which == STDERR else _INFO))
    partial = b"" if entry.endswith(b"\n") else _field(b"CONTAINER_PARTIAL_MESSAGE", b"true")
    return fields + priority + partial + _field(b"MESSAGE", entry.rstrip(b"\n"))
