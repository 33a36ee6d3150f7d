"""A process whose streams and proxy came as file descriptors from `runv` or a shim."""

import asyncio
import signal
from typing import TYPE_CHECKING

from ..errors import HyperError
from ..guest.protocol import Code
from ..system import cgroups
from .containers import INIT, Process
from .oom import report_oom
from .passed import Streams
from .proxy_link import ProxyLink

if TYPE_CHECKING:
    from .sandbox import Sandbox

# A reader may take its time, such as a person with a pager.
_DELIVERY_BOUND = 3600.0
_OTHERS_BOUND = 3.0
_REAP_TIME = 0.25


class PassedProcess:
    """Carries the streams, forwards the proxy's signals, and ends the proxy with the process."""

    def __init__(
        self, sandbox: "Sandbox", cid: str, process: Process, names: list[str], fds: list[int]
    ) -> None:
        streams = [(n, fd) for n, fd in zip(names, fds, strict=True) if n != "proxy"]
        self._sandbox = sandbox
        self._cid = cid
        self._process = process
        self._streams = Streams(process, [n for n, _ in streams], [fd for _, fd in streams])
        self._proxy = (
            ProxyLink(fds[names.index("proxy")], self._signal) if "proxy" in names else None
        )

        self._given_up = asyncio.Event()
        self._over = asyncio.Event()
        self._container = sandbox.containers.get(cid)
        self._container.passed = [p for p in self._container.passed if not p._over.is_set()]
        self._container.passed.append(self)

    def _signal(self, signum: int) -> None:
        if self._process.finished.done():
            self._given_up.set()
            return
        self._sandbox.spawn(self._forward(signum))

    async def _forward(self, signum: int) -> None:
        try:
            if signum == signal.SIGWINCH and self._streams.terminal >= 0:
                rows, cols = self._streams.window_size()
                if not rows and not cols:
                    return
                await self._sandbox.vm.request(
                    Code.WINSIZE,
                    {
                        "container": self._cid,
                        "process": self._process.pid,
                        "rows": rows,
                        "cols": cols,
                    },
                )
            else:
                await self._sandbox.signal(self._cid, self._process.pid, signum, to_all=False)
        except HyperError:
            pass

    async def run(self) -> None:
        """Carry until the process and its output are over."""
        feeding = self._streams.begin()
        if self._streams.terminal >= 0:
            self._signal(signal.SIGWINCH)
        status = await asyncio.shield(self._process.finished)
        if feeding is not None:
            feeding.cancel()
        await self._deliver()
        self._streams.close()
        if self._proxy is not None:
            if self._process.pid == INIT:
                await self._after_others()
                if status["oom"]:
                    await asyncio.to_thread(report_oom, self._group())
            await self._proxy.exit(status["code"])
        self._over.set()

    def _group(self) -> list[str]:
        """The control group that is to see that memory ran out."""
        if self._container.group:
            return self._container.group
        # What makes memory run out there may take QEMU with it, so only when it is to end.
        return cgroups.own_directories() if self._is_last() else []

    def _is_last(self) -> bool:
        """Whether no other container of the VM is left."""
        return all(c is self._container or c.status == "stopped" for c in self._sandbox.containers)

    async def _after_others(self) -> None:
        """Engines forget a container's other processes once its first one has ended."""
        others = [p for p in self._container.passed if p is not self and not p._over.is_set()]
        if not others:
            return
        waits = [asyncio.create_task(other._over.wait()) for other in others]
        await asyncio.wait(waits, timeout=_OTHERS_BOUND)
        for wait in waits:
            wait.cancel()
        # Of two children that have ended, an engine may reap the later one first.
        await asyncio.sleep(_REAP_TIME)

    async def _deliver(self) -> None:
        """Wait for a slow reader, unless somebody signals the proxy or wants the VM gone."""
        waits = (self._streams.flush(), self._given_up.wait(), self._sandbox.abandoned.wait())
        tasks = [asyncio.create_task(wait) for wait in waits]
        await asyncio.wait(tasks, timeout=_DELIVERY_BOUND, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
