"""Running processes in a sandbox and reading what they say."""

import asyncio
import contextlib
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hypercontainer.hypervisor import template as store
from hypercontainer.sandbox import ExitStatus, SandboxClient, VMConfig, launch
from tests.e2e.engine import ACCEL, ARCHITECTURE, SLOWNESS
from tests.e2e.rootfs import make_config, make_squashfs, make_tree, make_upper

BOUND = 60.0 * SLOWNESS


def keep_templates(patch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have a test's templates in a directory of its own, for it and for what it starts."""
    patch.setenv("HYPER_TEMPLATES", str(directory))
    patch.setattr(store, "DIRECTORY", str(directory))


class Ran(NamedTuple):
    """What a process said and how it ended."""

    stdout: bytes
    stderr: bytes
    status: ExitStatus


class Disks:
    """One base layer and any number of upper disks in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layer = make_squashfs(make_tree(directory / "tree"), directory / "layer.img")
        self._count = 0

    def rootfs(self, upper: Path | None = None) -> dict[str, Any]:
        """An overlay of the layer and a fresh upper disk, or the one given."""
        if upper is None:
            self._count += 1
            upper = make_upper(self.directory / f"upper{self._count}.img")
        return {
            "kind": "overlay",
            "lower": [{"path": str(self.layer), "fstype": "squashfs"}],
            "upper": {"path": str(upper), "fstype": "ext4"},
        }


@contextlib.asynccontextmanager
async def sandbox(directory: Path, **config: Any) -> AsyncIterator[SandboxClient]:
    """A VM that boots under emulation, killed at the end; its state is below `directory`."""
    state_dir = Path(tempfile.mkdtemp(dir=directory)) / "vm"
    usual = {"accel": ACCEL, "template": "off", "architecture": ARCHITECTURE}
    client = await launch("test", state_dir, VMConfig(**{**usual, **config}))
    try:
        yield client
    finally:
        await client.kill()


async def read_streams(reader: asyncio.StreamReader, bound: float = BOUND) -> tuple[bytes, bytes]:
    """stdout and stderr, until the process is over, in `bound` seconds."""
    found = {1: b"", 2: b""}
    async with asyncio.timeout(bound):
        while True:
            try:
                header = await reader.readexactly(8)
            except asyncio.IncompleteReadError as error:
                assert error.partial == b""
                return found[1], found[2]
            which, length = struct.unpack(">BxxxI", header)
            found[which] += await reader.readexactly(length)


async def feed(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    """Send `data` and the end of it; None leaves stdin open."""
    if data is not None:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            writer.write_eof()


async def collect(
    client: SandboxClient,
    cid: str,
    pid: str,
    stdin: bytes | None,
    *,
    start: bool = False,
    bound: float = BOUND,
) -> Ran:
    """Attach to a process and wait for its end."""
    reader, writer = await client.attach(cid, pid, stdin=stdin is not None)
    if start:
        await client.start_container(cid)
    feeding = asyncio.create_task(feed(writer, stdin))
    stdout, stderr = await read_streams(reader, bound)
    feeding.cancel()
    writer.close()
    return Ran(stdout, stderr, await asyncio.wait_for(client.wait(cid, pid), BOUND))


async def run(
    client: SandboxClient,
    rootfs: dict[str, Any],
    *args: str,
    cid: str = "c",
    stdin: bytes | None = None,
    config: dict[str, Any] | None = None,
    keep: bool = False,
) -> Ran:
    """A container from its creation to its removal."""
    await client.create_container(
        cid, config or make_config(*args), rootfs, stdin=stdin is not None
    )
    ran = await collect(client, cid, "init", stdin, start=True)
    if not keep:
        await client.remove_container(cid)
    return ran


async def execute(
    client: SandboxClient,
    cid: str,
    pid: str,
    process: dict[str, Any],
    stdin: bytes | None = None,
) -> Ran:
    """A further process of a container, to its end."""
    await client.exec(cid, pid, process, stdin=stdin is not None)
    return await collect(client, cid, pid, stdin)
