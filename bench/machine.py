"""A description of the machine, without which figures mean nothing."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from hypercontainer.errors import NotFound
from hypercontainer.guest import kernel


def describe() -> dict[str, str | int | float]:
    """CPU, cores, memory (MiB), load, kernel, QEMU, guest kernel, commit and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "kvm_device": int(os.path.exists("/dev/kvm")),
        "qemu": _first_line("qemu-system-x86_64", "--version"),
        "python": platform.python_version(),
        "guest_kernel": _guest_kernel(),
        "commit": _first_line(
            "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"
        ),
    }


def _guest_kernel() -> str:
    try:
        image = kernel.find()
    except NotFound:
        return "none"
    return f"{image.kind} {os.path.realpath(image.kernel)}"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "none"
    return done.stdout.partition("\n")[0]
