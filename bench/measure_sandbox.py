"""What lies below `hyper run`: the bare sandbox and `runv run`, against a bare boot of the kernel.

Measured in turns with the bare boot of `measure_start`, without a template (cold) and with one.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypercontainer.sandbox import VMConfig, launch, template

from . import bundles
from .daemon import BIN, COMMAND_BOUND
from .measure_start import bare_command, boot
from .results import Result

ROUNDS = 10


def measure() -> Iterator[Result]:
    """The bare boot, a container in a bare sandbox, `runv run`, and the ratios to the boot."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.") as name:
        directory = Path(name)
        command = bare_command(directory)
        bundle = bundles.bundle(directory / "bundle", "true")
        bare, answers, containers, runs = [], [], [], []
        boot(command)
        for number in range(ROUNDS):
            bare.append(boot(command))
            up, over = asyncio.run(_sandbox(directory / f"vm{number}", bundle, "off"))
            answers.append(up)
            containers.append(over)
            runs.append(_runv(directory, bundle, "off"))
        yield Result("bare boot", "s", bare)
        yield Result("sandbox: launch to guest ready, cold", "s", answers)
        yield Result("sandbox: launch to the end of `true`, cold", "s", containers)
        yield Result("runv run, cold", "s", runs)
        for what, figures in (("sandbox", containers), ("runv run", runs)):
            ratios = [one / other for one, other in zip(figures, bare, strict=True)]
            yield Result(f"{what} against the bare boot", "times", ratios)
        template.make(VMConfig(share=True))
        clones = [
            asyncio.run(_sandbox(directory / f"clone{n}", bundle, "use")) for n in range(ROUNDS)
        ]
        yield Result("sandbox: launch to guest ready, cloned", "s", [up for up, _ in clones])
        yield Result("sandbox: launch to the end of `true`, cloned", "s", [o for _, o in clones])
        runs = [_runv(directory, bundle, "use") for _ in range(ROUNDS)]
        yield Result("runv run, cloned", "s", runs)


async def _sandbox(state_dir: Path, bundle: Path, how: str) -> tuple[float, float]:
    """Seconds from a launch until the guest answers, and until its container is over."""
    begin = time.perf_counter()
    client = await launch("bench", state_dir, VMConfig(share=True, template=how))
    up = time.perf_counter() - begin
    rootfs = bundle / "rootfs"
    await client.create_container(
        "c", bundles.config("true", rootfs=rootfs), {"kind": "share", "path": str(rootfs)}
    )
    await client.start_container("c")
    await client.wait("c")
    over = time.perf_counter() - begin
    await client.kill()
    return up, over


def _runv(directory: Path, bundle: Path, how: str) -> float:
    """Seconds that `runv run` of the bundle takes, deletion included."""
    command = [str(BIN / "runv"), "--root", str(directory / "runv"), "--template", how]
    return bundles.timed([*command, "run", "--bundle", str(bundle), "bench"], COMMAND_BOUND)
