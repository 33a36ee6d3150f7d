"""A further process in a container that runs, against a round trip to the guest."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from hypercontainer.sandbox import SandboxClient, VMConfig, launch

from . import bundles
from .daemon import BIN, COMMAND_BOUND
from .results import Result

ROUNDS = 30


def measure() -> Iterator[Result]:
    """Round trips to the sandbox and to the guest, exec of `true` by API and by runv."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        yield from asyncio.run(_by_api(directory))
        yield from _by_runv(directory)
        yield from _by_runc(directory)


async def _by_api(directory: Path) -> list[Result]:
    rootfs = bundles.root(directory)
    client = await launch("bench", directory / "vm", VMConfig(share=True, template="off"))
    try:
        config = bundles.config("sleep", "600", rootfs=rootfs)
        await client.create_container("c", config, {"kind": "share", "path": str(rootfs)})
        await client.start_container("c")
        process = {**config["process"], "args": ["true"]}
        await _exec(client, process, "warm")
        return [
            Result("round trip to the sandbox", "ms", await _times(lambda n: client.info())),
            Result(
                "round trip to the guest (stats)", "ms", await _times(lambda n: client.stats("c"))
            ),
            Result(
                "exec of `true`, start to exit code",
                "ms",
                await _times(lambda n: _exec(client, process, f"e{n}")),
            ),
        ]
    finally:
        await client.kill()


async def _exec(client: SandboxClient, process: dict[str, Any], pid: str) -> None:
    await client.exec("c", pid, process, detach=True)
    await client.wait("c", pid)


async def _times(call: Callable[[int], Awaitable[object]]) -> list[float]:
    found = []
    for number in range(ROUNDS):
        begin = time.perf_counter()
        await call(number)
        found.append((time.perf_counter() - begin) * 1000)
    return found


def _by_runv(directory: Path) -> Iterator[Result]:
    bundle = bundles.bundle(directory / "bundle", "sleep", "600")
    command = [str(BIN / "runv"), "--root", str(directory / "runv"), "--template", "off"]
    with (directory / "null").open("wb") as null:
        subprocess.run(
            [*command, "run", "--detach", "--bundle", str(bundle), "bench"],
            stdin=subprocess.DEVNULL,
            stdout=null,
            stderr=null,
            check=True,
            timeout=COMMAND_BOUND,
        )
    try:
        yield Result("runv exec of `true`", "ms", _commands([*command, "exec", "bench", "true"]))
    finally:
        subprocess.run([*command, "delete", "--force", "bench"], check=True, timeout=COMMAND_BOUND)


def _by_runc(directory: Path) -> Iterator[Result]:
    """For comparison, where runc is installed and can run a container."""
    if shutil.which("runc") is None:
        return
    bundle = bundles.bundle(directory / "runc-bundle", "sleep", "600")
    command = ["runc", "--root", str(directory / "runc")]
    with (directory / "null").open("wb") as null:
        started = subprocess.run(
            [*command, "run", "--detach", "--bundle", str(bundle), "bench"],
            stdin=subprocess.DEVNULL,
            stdout=null,
            stderr=null,
            timeout=COMMAND_BOUND,
        )
    if started.returncode:
        return
    try:
        yield Result("runc exec of `true`", "ms", _commands([*command, "exec", "bench", "true"]))
    finally:
        subprocess.run([*command, "delete", "--force", "bench"], check=True, timeout=COMMAND_BOUND)


def _commands(command: list[str]) -> list[float]:
    return [bundles.timed(command, COMMAND_BOUND) * 1000 for _ in range(ROUNDS)]
