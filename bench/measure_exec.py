"""A further process in a container that runs, against a bare round trip to the guest.

The bare round trip is a PING and its answer over the serial port of a VM that only this program
talks to, without a sandbox process.
"""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

from hypercontainer.sandbox import SandboxClient, VMConfig, launch

from . import bundles
from .clone import ping, started
from .daemon import BIN, COMMAND_BOUND, hyperd
from .results import Result

ROUNDS = 30
_BOUND = 3.0


def measure() -> Iterator[Result]:
    """Round trips to the sandbox and to the guest, exec of `true` by API and by commands."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        yield from asyncio.run(_by_api(directory))
        yield from _by_runv(directory)
        yield from _by_hyper()
        yield from _by_runc(directory)


async def _by_api(directory: Path) -> list[Result]:
    """All in turns."""
    rootfs = bundles.root(directory)
    vm = VMConfig(share=True, template="off")
    client = await launch("bench", directory / "vm", vm)
    with started(vm) as control:
        try:
            config = bundles.config("sleep", "600", rootfs=rootfs)
            await client.create_container("c", config, {"kind": "share", "path": str(rootfs)})
            await client.start_container("c")
            process = {**config["process"], "args": ["true"]}
            await _exec(client, process, "warm")
            bare, sandbox, stats, execs = [], [], [], []
            for number in range(ROUNDS):
                bare.append(_bare(control, number + 2))
                sandbox.append(await _timed(client.info()))
                stats.append(await _timed(client.stats("c")))
                execs.append(await _timed(_exec(client, process, f"e{number}")))
        finally:
            await client.kill()
    ratios = [one / other for one, other in zip(execs, bare, strict=True)]
    return [
        Result("bare round trip over the serial port", "ms", bare, key="bare_round_trip_ms"),
        Result("round trip to the sandbox", "ms", sandbox),
        Result("round trip to the guest (stats)", "ms", stats),
        Result("exec of `true`, start to exit code", "ms", execs, key="exec_ms"),
        Result("exec against the bare round trip", "times", ratios, at_most=_BOUND),
    ]


def _bare(control: socket.socket, seq: int) -> float:
    begin = time.perf_counter()
    ping(control, seq)
    return 1000 * (time.perf_counter() - begin)


async def _exec(client: SandboxClient, process: dict[str, Any], pid: str) -> None:
    await client.exec("c", pid, process, detach=True)
    await client.wait("c", pid)


async def _timed(call: Awaitable[object]) -> float:
    begin = time.perf_counter()
    await call
    return 1000 * (time.perf_counter() - begin)


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


def _by_hyper() -> Iterator[Result]:
    with hyperd("off") as hyper:
        hyper("run", "-d", "--name", "bench", "busybox", "sleep", "600")
        samples = [1000 * hyper.timed("exec", "bench", "true") for _ in range(ROUNDS)]
        yield Result("hyper exec of `true`", "ms", samples)
        hyper("rm", "-f", "bench")


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
