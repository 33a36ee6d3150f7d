"""An OCI bundle of Debian's static busybox, for what is measured below hyperd."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from hypercontainer.oci.bundle import default_spec

_BUSYBOX = Path("/bin/busybox")


def config(*args: str, rootfs: Path) -> dict[str, Any]:
    """runv's default configuration, without a terminal, that runs `args`."""
    found = default_spec()
    found["process"] = {**found["process"], "terminal": False, "args": list(args)}
    found["root"] = {"path": str(rootfs)}
    return found


def root(directory: Path) -> Path:
    """A root file system with `true`, `sleep` and `sh`."""
    path = directory / "rootfs"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (path / name).mkdir(parents=True)
    shutil.copy2(_BUSYBOX, path / "bin" / "busybox")
    for name in ("true", "sleep", "sh"):
        (path / "bin" / name).symlink_to("busybox")
    return path


def bundle(directory: Path, *args: str) -> Path:
    """A bundle that runs `args`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = config(*args, rootfs=root(directory))
    (directory / "config.json").write_text(json.dumps(content))
    return directory


def timed(command: list[str], timeout: float) -> float:
    """Run a command; the seconds it took.

    Its output goes to a pipe, because subprocess waits for a bounded time by
    looking every 50 ms unless it has a pipe whose end tells it. So does its input: gVisor
    would give the host's /dev/null to its own user.
    """
    begin = time.perf_counter()
    subprocess.run(
        command,
        input=b"",
        stdout=subprocess.PIPE,
        check=True,
        timeout=timeout,
    )
    return time.perf_counter() - begin
