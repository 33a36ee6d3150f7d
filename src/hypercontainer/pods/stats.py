"""What containers use: Docker's statistics made of the guest's cgroup files.

The guest is not trusted: what it sends is bounded, and read as numbers only.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from ..errors import HyperError
from ..sandbox import read_state
from ..system import processes
from .model import Container, Pod, Status, now

_BOUND = 10.0
_MAX_LINES = 512
_MAX_NUMBER = (1 << 64) - 1
_DEVICES = 64
_NET_FIELDS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_dropped": 3,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_dropped": 11,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What a container had used at a time (RFC 3339, and nanoseconds of a steady clock)."""

    time: str
    clock: int
    files: dict[str, str]
    vm: dict[str, int]

    @property
    def cpu(self) -> dict[str, int]:
        """The numbers of cpu.stat."""
        return numbers(self.files.get("cpu.stat", ""))


EMPTY = Sample("0001-01-01T00:00:00Z", 0, {}, {})


async def sample(pod: Pod, container: Container) -> Sample:
    """Ask the guest; one that does not run, is paused or does not answer has used nothing."""
    client = pod.client
    files: dict[str, str] = {}
    if client is not None and container.state.status == Status.RUNNING:
        try:
            async with asyncio.timeout(_BOUND):
                answer = await client.stats(container.id)
            files = {str(name): text for name, text in answer.items() if isinstance(text, str)}
        except (HyperError, TimeoutError):
            pass
    return Sample(now(), time.monotonic_ns(), files, _vm(pod))


def _vm(pod: Pod) -> dict[str, int]:
    """What the VM's process takes of the host: nanoseconds of CPU, bytes of memory."""
    state = (read_state(pod.client.state_dir) if pod.client else None) or {}
    used = processes.usage(int(state.get("vmm_pid") or 0))
    return {} if used is None else {"cpu_total_usage": used[0], "memory_rss": used[1]}


def stats(pod: Pod, container: Container, last: Sample, this: Sample) -> dict[str, Any]:
    """Docker's form of GET /containers/ID/stats, with `vm`: what the VM takes of the host."""
    cpus = pod.spec.vcpu
    memory = numbers(this.files.get("memory.stat", ""))
    return {
        "read": this.time,
        "preread": last.time,
        "id": container.id,
        "name": f"/{container.name}",
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": _pids(this.files),
        "cpu_stats": _cpu(this, cpus),
        "precpu_stats": _cpu(last, cpus) if last.files else _cpu(EMPTY, cpus),
        "memory_stats": {
            "usage": number(this.files.get("memory.current", "")),
            "limit": number(this.files.get("memory.max", "")) or pod.spec.memory << 20,
            "stats": memory,
        }
        if this.files
        else {},
        "blkio_stats": {"io_service_bytes_recursive": _block(this.files.get("io.stat", ""))},
        "networks": _networks(this.files.get("net.dev", "")),
        "vm": this.vm,
    }


def _pids(files: dict[str, str]) -> dict[str, int]:
    limit = number(files.get("pids.max", ""))
    result = {"current": number(files.get("pids.current", ""))} if files else {}
    return {**result, **({"limit": limit} if limit else {})}


def _cpu(sample: Sample, cpus: int) -> dict[str, Any]:
    """`system_cpu_usage` is the time that all of the VM's processors had."""
    cpu = sample.cpu
    return {
        "cpu_usage": {
            "total_usage": cpu.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": cpu.get("system_usec", 0) * 1000,
            "usage_in_usermode": cpu.get("user_usec", 0) * 1000,
        },
        "system_cpu_usage": sample.clock * cpus,
        "online_cpus": cpus,
        "throttling_data": {
            "periods": cpu.get("nr_periods", 0),
            "throttled_periods": cpu.get("nr_throttled", 0),
            "throttled_time": cpu.get("throttled_usec", 0) * 1000,
        },
    }


def _block(text: str) -> list[dict[str, Any]]:
    """Lines of `MAJOR:MINOR rbytes=N wbytes=N …`."""
    result: list[dict[str, Any]] = []
    for line in text.splitlines()[:_DEVICES]:
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.partition("=")[::2] for pair in pairs)
        for operation, key in (("read", "rbytes"), ("write", "wbytes")):
            about = {"major": number(major), "minor": number(minor), "op": operation}
            result.append({**about, "value": number(values.get(key, ""))})
    return result


def _networks(text: str) -> dict[str, dict[str, int]]:
    """The interfaces of /proc/net/dev, but for the loopback."""
    result: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[2 : _DEVICES + 2]:
        name, _, rest = line.partition(":")
        values = rest.split()
        name = name.strip()
        if name == "lo" or len(values) < 16 or not name.isprintable() or len(name) > 15:
            continue
        result[name] = {key: number(values[index]) for key, index in _NET_FIELDS.items()}
    return result


def number(text: str) -> int:
    """A number of at most 64 bits; 0 for anything else (`max`)."""
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return 0
    return min(int(text), _MAX_NUMBER)


def numbers(text: str) -> dict[str, int]:
    """Lines of `NAME NUMBER`."""
    result: dict[str, int] = {}
    for line in text.splitlines()[:_MAX_LINES]:
        name, _, value = line.partition(" ")
        if name.isidentifier() and len(name) < 64:
            result[name] = number(value)
    return result


def titles_and_rows(listed: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Docker's form of GET /containers/ID/top, of what the guest lists."""
    rows = []
    for process in listed:
        values = {key: process.get(key) for key in ("uid", "pid", "ppid", "rss", "cpu")}
        checked = {k: v if isinstance(v, int) and v >= 0 else 0 for k, v in values.items()}
        seconds = checked.pop("cpu") // 1000
        command = process.get("cmd")
        rows.append(
            [
                *(str(value) for value in checked.values()),
                f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
                command[:4096] if isinstance(command, str) else "?",
            ]
        )
    return ["UID", "PID", "PPID", "RSS", "TIME", "CMD"], rows


def pod_stats(containers: list[dict[str, Any]]) -> dict[str, Any]:
    """The original's PodStats of the statistics of a pod's containers."""
    each = [_original(container) for container in containers]
    interfaces = containers[0]["networks"] if containers else {}
    usage = [item["cpu"]["usage"] for item in each]
    return {
        "cpu": {"usage": {key: sum(u[key] for u in usage) for key in ("total", "user", "system")}},
        "block": {
            "ioServiceBytesRecursive": [
                entry for item in each for entry in item["block"]["ioServiceBytesRecursive"]
            ]
        },
        "memory": {
            key: sum(item["memory"][key] for item in each) for key in ("usage", "workingSet")
        },
        "network": {
            "interfaces": [
                {
                    "name": name,
                    **{_camel(key): value for key, value in counts.items()},
                }
                for name, counts in interfaces.items()
            ]
        },
        "timestamp": containers[0]["read"] if containers else now(),
        "containersStats": each,
    }


def _original(container: dict[str, Any]) -> dict[str, Any]:
    usage = container["cpu_stats"]["cpu_usage"]
    memory = container["memory_stats"]
    used = memory.get("usage", 0)
    return {
        "containerID": container["id"],
        "cpu": {
            "usage": {
                "total": usage["total_usage"],
                "user": usage["usage_in_usermode"],
                "system": usage["usage_in_kernelmode"],
            }
        },
        "memory": {
            "usage": used,
            "workingSet": max(used - memory.get("stats", {}).get("inactive_file", 0), 0),
        },
        "block": {
            "ioServiceBytesRecursive": [
                {
                    "name": f"{e['major']}:{e['minor']}",
                    "type": "block",
                    "major": e["major"],
                    "minor": e["minor"],
                    "stat": {e["op"]: e["value"]},
                }
                for e in container["blkio_stats"]["io_service_bytes_recursive"]
            ]
        },
        "timestamp": container["read"],
    }


def _camel(key: str) -> str:
    """`rx_bytes` as `rxBytes`."""
    first, _, second = key.partition("_")
    return first + second.capitalize()
