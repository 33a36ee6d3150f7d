"""Work on files in a container, for each way of giving it some, against a bare guest of QEMU.

Both have the same kernel, the same programs and memory, and their files on the same kind of
backend, on the same file system of the host; they take turns.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypercontainer.guest.spec import DISK_MOUNT
from hypercontainer.sandbox import VMConfig, launch
from tests.e2e.vms import collect

from . import bundles, filework
from .filework import BOUND, DRIVERS, MEMORY_MIB, SCRIPT, SECONDS, WORK
from .results import Result

ROUNDS = int(os.environ.get("HYPER_BENCH_DISK_ROUNDS", "3"))


def measure() -> Iterator[Result]:
    """For each driver and each work: ours, and the ratio of its time to the bare guest's."""
    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as place:
        directory = Path(place)
        image = filework.tools(directory)
        data = filework.Data(directory)
        for driver in DRIVERS:
            ours, bare = [], []
            for number in range(ROUNDS):
                bare.append(filework.bare_guest(driver, data, image, directory))
                ours.append(_container(driver, data, image, directory / f"{driver}{number}"))
            for key, unit, what, more_is_better in WORK:
                yield Result(
                    f"{driver}: {what}", unit, [found[key] for found in ours], key=f"{driver}_{key}"
                )
                pairs = [(o[key], b[key]) for o, b in zip(ours, bare, strict=True)]
                ratios = [b / o if more_is_better else o / b for o, b in pairs]
                note = f"bare: {sorted(b for _, b in pairs)[len(pairs) // 2]:.3g} {unit}"
                yield Result(
                    f"{driver}: {what}, time to the bare guest's", "times", ratios, note=note
                )


def _container(driver: str, data: filework.Data, image: Path, state_dir: Path) -> dict[str, float]:
    with data.disk() if driver == "block" else data.tree() as source:
        return asyncio.run(_work(driver, source, image, state_dir))


async def _work(driver: str, source: Path, image: Path, state_dir: Path) -> dict[str, float]:
    vm = VMConfig(
        memory_mib=MEMORY_MIB,
        share=driver != "block",
        share_driver=driver if driver != "block" else "9p",
        template="off",
    )
    client = await launch("bench", state_dir, vm)
    try:
        await client.create_container(
            "c",
            _config(driver, source),
            {"kind": "overlay", "lower": [{"path": str(image), "fstype": "squashfs"}]},
            files=[{"path": "/tmp/filework.sh", "content": SCRIPT.read_text(), "mode": 0o755}],
        )
        ran = await collect(client, "c", "init", None, start=True, bound=BOUND)
    finally:
        await client.kill()
    return filework.parse((ran.stdout + ran.stderr).decode(errors="replace"))


def _config(driver: str, source: Path) -> dict[str, Any]:
    """A container that may empty the guest's caches, with the files at /mnt."""
    config = bundles.config("bash", "/tmp/filework.sh", "/mnt", str(SECONDS), rootfs=Path("/"))
    config["process"]["capabilities"] = None
    config["process"]["env"] = ["PATH=/usr/bin:/bin"]
    config["linux"] = {**config["linux"], "maskedPaths": [], "readonlyPaths": []}
    mount: dict[str, Any] = {"destination": "/mnt", "type": "bind", "options": ["bind", "rw"]}
    if driver == "block":
        mount |= {"type": DISK_MOUNT, "options": ["rw"]}
    memory = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=200m"]}
    config["mounts"] = [*config["mounts"], memory, {**mount, "source": str(source)}]
    return config
