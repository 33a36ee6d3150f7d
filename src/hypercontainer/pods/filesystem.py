"""Files of containers, running or not: looked at, copied out and in, exported, compared.

The guest reads and writes them (hyperstart's archive processes): a running container is asked
in its own VM; the disks of a stopped one are put into a VM in which nothing of the image runs.
"""

import asyncio
import contextlib
import posixpath
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import (
    BadRequest,
    Conflict,
    HyperError,
    NoSpace,
    NotFound,
    NotRunning,
    ReadOnly,
    VMError,
)
from ..guest.entries import Entry
from ..guest.protocol import ProtocolError
from ..sandbox import SandboxClient, VMConfig, launch
from .model import Container, Pod, Status
from .mounts import needs_share
from .records import RecordReader, list_of, tar_end, tar_of
from .sandboxes import end_sandbox
from .untar import records_of

if TYPE_CHECKING:
    from ..volumes import VolumeStore
    from .layout import Layout
    from .plans import Defaults, Planner
    from .runner import Runner

MAX_CHANGES = 1_000_000
_STALL = 120.0
_SHUTDOWN_BOUND = 30.0
# Made by hyperd where an image lacks them; no change of the container's.
_OWN = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev", "/proc", "/sys")


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs from the image: `kind` is A (added), C (changed) or D (deleted)."""

    path: str
    kind: str


class ContainerFiles:
    """The files of one container, open for a while. Paths are absolute, in the container.

    Every method raises VMError when its VM ends or breaks the protocol.
    """

    def __init__(self, client: SandboxClient, container: Container) -> None:
        self._client = client
        self._container = container
        self.written = False

    async def stat(self, path: str, *, follow: bool = False) -> Entry:
        """What is at a path; its target too when it is a symlink. Raises NotFound."""
        async with self._records("stat", path, follow=follow) as records:
            entry = await records.entry()
            await records.finish()
        if entry is None:
            raise VMError(f"{self._container.name}:{path}: the guest did not say what it is")
        return entry

    async def get(self, path: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """A tar archive of a file, or of a directory and all below.

        Its first entry has the last name of the path; `.` when the path ends in `/.`.
        Raises NotFound, before the first piece.
        """
        name = "." if path.endswith("/.") else posixpath.basename(path.rstrip("/")) or "."
        async with self._records("get", path, follow=follow) as records:
            async for piece in tar_of(records, name):
                yield piece
            await records.finish()
        yield tar_end()

    async def export(self) -> AsyncIterator[bytes]:
        """A tar archive of the root file system, without what is mounted in it."""
        async with self._records("get", "/", rootfs_only=True) as records:
            async for piece in tar_of(records, ""):
                yield piece
            await records.finish()
        yield tar_end()

    async def layer(self) -> AsyncIterator[bytes]:
        """What differs from the image as the tar archive of an OCI layer, with whiteouts."""
        kept = {change.path for change in await self.changes()}
        async with self._records("upper") as records:
            async for piece in tar_of(records, "", skip=lambda path: f"/{path}" not in kept):
                yield piece
            await records.finish()
        yield tar_end()

    async def changes(self) -> list[Change]:
        """What differs from the image, as `docker diff` has it, sorted by path."""
        async with self._records("changes") as records:
            entries = await list_of(records, MAX_CHANGES)
            await records.finish()
        return changes_of(entries, _own_paths(self._container))

    async def put(self, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack a tar archive (plain, gzip, bzip2 or xz) in an existing directory.

        Raises NotFound or BadRequest (no directory), ReadOnly, NoSpace, BadRequest (archive).
        """
        self.written = True
        async with self._process("put", path) as (records, writer):
            ended = asyncio.ensure_future(records.finish())
            pieces = records_of(archive)
            try:
                async for piece in pieces:
                    if ended.done():
                        break  # its exit code says why
                    writer.write(piece)
                    await writer.drain()
                else:
                    writer.write_eof()
                await ended
            except ConnectionError:
                pass
            finally:
                ended.cancel()
                await pieces.aclose()

    @asynccontextmanager
    async def _records(
        self, op: str, path: str = "/", **flags: bool
    ) -> AsyncIterator[RecordReader]:
        async with self._process(op, path, **flags) as (records, _):
            yield records

    @asynccontextmanager
    async def _process(
        self, op: str, path: str, **flags: bool
    ) -> AsyncIterator[tuple[RecordReader, asyncio.StreamWriter]]:
        """An archive process of the guest; its failure is raised after the body."""
        pid = f"files-{secrets.token_hex(6)}"
        cid, client = self._container.id, self._client
        where = f"{self._container.name}:{path}"
        await client.archive(cid, pid, op, path, **flags)
        try:
            reader, writer = await client.attach(cid, pid, stdin=op == "put")
            try:
                records = RecordReader(reader, None if op == "put" else _STALL)
                yield records, writer
                async with asyncio.timeout(_STALL):
                    status = await client.wait(cid, pid)
            finally:
                writer.close()
        except ProtocolError as error:
            raise VMError(f"{where}: the guest breaks the protocol: {error}") from error
        except BaseException:
            with contextlib.suppress(HyperError, TimeoutError):
                async with asyncio.timeout(5.0):
                    await client.signal(cid, pid, 9)
            raise
        if status.code:
            raise _failure(status.code, where, records.error or status.reason)


def _failure(code: int, where: str, reason: str) -> HyperError:
    match code:
        case 3:
            return NotFound(f"{where}: no such file or directory")
        case 20:
            return BadRequest(f"{where}: not a directory")
        case 28:
            return NoSpace(f"{where}: {reason}")
        case 30:
            return ReadOnly(f"{where}: {reason}")
        case _:
            return BadRequest(f"{where}: {reason or f'hyperstart failed with {code}'}")


def _own_paths(container: Container) -> frozenset[str]:
    """Paths that are mounted over, whose mount points may be new in the container's disk."""
    return frozenset((*_OWN, *(file.path for file in container.spec.files)))


def changes_of(entries: list[Entry], own: frozenset[str]) -> list[Change]:
    """Without what is hyperd's own, and without directories in which only that has changed."""
    found = {f"/{e.path}": e for e in entries if not _below(f"/{e.path}", own)}
    needed: set[str] = set()
    for path, entry in found.items():
        if not entry.same:
            while path not in needed and path != "/":
                needed.add(path)
                path = posixpath.dirname(path)
    return [Change(p, found[p].kind or "C") for p in sorted(found) if p in needed]


def _below(path: str, own: frozenset[str]) -> bool:
    return path in own or path.startswith(("/dev/", "/proc/", "/sys/"))


class Filesystem:
    """Opens the files of containers."""

    def __init__(
        self,
        layout: "Layout",
        planner: "Planner",
        defaults: "Defaults",
        volumes: "VolumeStore",
        runner: "Runner",
    ) -> None:
        self._layout = layout
        self._volumes = volumes
        self._planner = planner
        self._defaults = defaults
        self._runner = runner

    @asynccontextmanager
    async def open(
        self, pod: Pod, container: Container, *, volumes: bool = True
    ) -> AsyncIterator[ContainerFiles]:
        """The files of a container, with its volumes where that matters.

        A stopped one can't be started, nor its pod changed, before the end of the body.
        Raises NotRunning (paused), Conflict (being removed).
        """
        if container.state.status == Status.STARTING:
            async with pod.lock:
                pass
        if container.live:
            yield ContainerFiles(_client_of(pod, container), container)
            return
        async with pod.lock:
            if container.live:
                files = ContainerFiles(_client_of(pod, container), container)
                yield files
                return
            if container not in pod.containers or container.state.status == Status.REMOVING:
                raise Conflict(f"container {container.name} is being removed")
            await self._runner.ended(pod.id)
            async with self._stopped(pod, container, volumes) as files:
                yield files

    @asynccontextmanager
    async def _stopped(
        self, pod: Pod, container: Container, volumes: bool
    ) -> AsyncIterator[ContainerFiles]:
        """In the VM of the pod if that runs, else in one for this."""
        if not volumes:
            container = _without_volumes(container)
        if pod.client is not None:
            async with self._idle(pod, container, pod.client) as files:
                yield files
            return
        state_dir = self._layout.sandboxes / f"{container.id}+files"
        await end_sandbox(state_dir, patience=0.0)
        vm = VMConfig(
            **self._defaults.of_vms(self._planner.architecture([container])),
            share=needs_share(self._volumes, [container]),
        )
        try:
            client = await launch(
                container.id, state_dir, vm, wait=False, zygote=self._runner.zygote
            )
            async with self._idle(pod, container, client) as files:
                yield files
                if files.written:
                    await client.shutdown(timeout=_SHUTDOWN_BOUND)
        finally:
            await _to_its_end(end_sandbox(state_dir, patience=0.0))

    @asynccontextmanager
    async def _idle(
        self, pod: Pod, container: Container, client: SandboxClient
    ) -> AsyncIterator[ContainerFiles]:
        """The container in a VM, without a program."""
        await asyncio.to_thread(self._planner.make_disk, container)
        plan = self._planner.plan(pod, container, await self._planner.gather(container))
        config: dict[str, Any] = {**plan.config, "process": {"idle": True, "cwd": "/"}}
        await client.create_container(
            container.id, config, plan.rootfs, files=plan.files, log={"path": "/dev/null"}
        )
        try:
            yield ContainerFiles(client, container)
        finally:
            if client is pod.client:
                with contextlib.suppress(HyperError):
                    await _to_its_end(client.remove_container(container.id, force=True))


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of some work even when cancelled, as what follows counts on it."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


def _client_of(pod: Pod, container: Container) -> SandboxClient:
    if container.state.status == Status.PAUSED or pod.client is None:
        raise NotRunning(f"container {container.name} is paused: unpause it first")
    return pod.client


def _without_volumes(container: Container) -> Container:
    return replace(
        container,
        spec=replace(container.spec, volumes=(), files=()),
        image_config={**container.image_config, "Volumes": None},
        anonymous=[],
        waiting=[],
        window=None,
    )
