"""A TCP proxy that cuts connections after a number of bytes, and keeps what was asked."""

import asyncio
import re
from types import TracebackType


class CutProxy:
    """An async context manager in front of a port of loopback; `host` is where to connect to.

    While `cuts` is above zero, a connection that has answered `cut_at` bytes is cut, and `cuts`
    goes down by one.
    """

    def __init__(self, port: int, *, cuts: int = 0, cut_at: int = 1_000_000) -> None:
        self.cuts = cuts
        self.cut_at = cut_at
        self.passed = 0
        self.asked = asyncio.Event()
        self.was_cut = asyncio.Event()
        self._target = port
        self._asked = bytearray()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def ranges(self) -> list[int]:
        """The begins of all ranges that were asked for."""
        return [int(begin) for begin in re.findall(rb"Range: bytes=(\d+)-", bytes(self._asked))]

    def count(self, part: str) -> int:
        """How many requests had a path with `part`."""
        return len(re.findall(rb"GET \S*%b" % part.encode(), bytes(self._asked)))

    async def until_asked(self, part: str, times: int) -> None:
        """Wait for that many requests for a path with `part`."""
        while self.count(part) < times:
            self.asked.clear()
            await self.asked.wait()

    async def __aenter__(self) -> "CutProxy":
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        forth = asyncio.create_task(self._ask(reader, back_writer))
        try:
            await self._answer(back_reader, writer)
        except ConnectionError:
            pass
        finally:
            forth.cancel()
            for one in (writer, back_writer):
                one.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            self._asked += data
            self.asked.set()
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while data := await reader.read(16384):
            cut = self.cuts > 0 and sent + len(data) > self.cut_at
            data = data[: self.cut_at - sent] if cut else data
            sent += len(data)
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            if cut:
                self.cuts -= 1
                self.was_cut.set()
                return
