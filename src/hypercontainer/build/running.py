"""RUN: a program in a VM of its own, and what it changed as a layer."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import HyperError, ProgramError
from ..pods.model import Attachment, Container, Pod
from ..pods.service import PodService

_HEADER = 8
_PIECE = 1 << 16
_CLEAN_UP = 60.0


@dataclass(frozen=True)
class Program:
    """What RUN runs, and how."""

    image: str
    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str
    user: str
    memory_mib: int


@asynccontextmanager
async def ran(
    service: PodService, program: Program, output: Callable[[bytes], None]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run a program to its end; within, the layer of what it changed can be read.

    `output` is told what it writes. Nothing of it stays. Raises ProgramError with
    its exit code when that is not 0, VMError, and what creating a pod raises.
    """
    name = f"build-{secrets.token_hex(6)}"
    pod = service.create(_spec(name, program))
    try:
        container = pod.containers[0]
        container.image_config = {
            key: value for key, value in container.image_config.items() if key != "Healthcheck"
        }
        code = await _to_the_end(service, pod, container, output)
        if code:
            raise ProgramError(f"the command returned exit code {code}", exit_code=code)
        async with service.files.open(pod, container, volumes=False) as files:
            yield files.layer()
    finally:
        await asyncio.shield(_remove(service, pod))


async def _remove(service: PodService, pod: Pod) -> None:
    with contextlib.suppress(HyperError, TimeoutError):
        async with asyncio.timeout(_CLEAN_UP):
            await service.remove(pod, force=True, volumes=True)


def _spec(name: str, program: Program) -> dict[str, Any]:
    return {
        "id": name,
        "resource": {"memory": program.memory_mib, "vcpu": min(os.cpu_count() or 1, 4)},
        "containers": [
            {
                "name": name,
                "image": program.image,
                "entrypoint": list(program.argv),
                "envs": [{"env": key, "value": value} for key, value in program.env.items()],
                "workdir": program.workdir,
                "user": program.user,
                "stdin": False,
            }
        ],
    }


async def _to_the_end(
    service: PodService, pod: Pod, container: Container, output: Callable[[bytes], None]
) -> int:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    attaching = asyncio.ensure_future(service.attach(container, stdin=False, gone=gone))
    await asyncio.sleep(0)  # it must wait before the start, to miss nothing
    reading: asyncio.Future[None] | None = None
    try:
        await service.start(pod)
        reading = asyncio.ensure_future(_read(await attaching, output))
        code = await service.exit_code(container.id)
        await reading
        return code
    finally:
        if not gone.done():
            gone.set_result(None)
        for task in (attaching, reading):
            if task is not None and not task.done():
                task.cancel()
        waited = [task for task in (attaching, reading) if task is not None]
        await asyncio.gather(*waited, return_exceptions=True)


async def _read(streams: Attachment, output: Callable[[bytes], None]) -> None:
    """Take stdcopy frames apart until their end."""
    reader, writer = streams
    try:
        while True:
            header = await reader.readexactly(_HEADER)
            left = int.from_bytes(header[4:], "big")
            while left:
                data = await reader.read(min(left, _PIECE))
                if not data:
                    return
                left -= len(data)
                output(data)
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()
