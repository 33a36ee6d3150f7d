"""`hyper update`."""

from __future__ import annotations

from .arguments import UsageError, cpu_count, memory_mib, nano_cpus
from .containers import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session


def configure_update(parser: Parser) -> None:
    """Options of `update`."""
    add = parser.add_argument
    add(
        "-m",
        "--memory",
        type=_memory,
        metavar="SIZE",
        help="limit of memory of the container: 64m; -1: what the VM has, which gets what it lacks",
    )
    add(
        "--memory-reservation",
        type=_memory,
        metavar="SIZE",
        help="what it keeps when memory is short",
    )
    add(
        "--cpus",
        type=_nano_cpus,
        metavar="N",
        help="limit of processor time: 0.5; -1: what the VM has, which gets what it lacks",
    )
    add("-c", "--cpu-shares", type=int, metavar="N", help="its weight, 2 to 262144")
    add("--pids-limit", type=int, metavar="N", help="limit of processes; -1: none")
    add("--restart", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped")
    add(
        "--vm-memory",
        type=memory_mib,
        metavar="SIZE",
        help="memory of the VM; one that runs only gets more, unless it is Xen's",
    )
    add(
        "--vm-cpus",
        type=cpu_count,
        metavar="N",
        help="virtual CPUs of the VM, likewise",
    )
    add("containers", nargs="+", metavar="CONTAINER")


def _memory(text: str) -> int:
    """Bytes; -1 for no limit."""
    return -1 if text == "-1" else memory_mib(text) << 20


def _nano_cpus(text: str) -> int:
    """Billionths of a processor; -1 for no limit."""
    return -1 if text == "-1" else nano_cpus(text)


def command_update(session: Session, args: argparse.Namespace) -> int:
    """`hyper update`."""
    changes: dict[str, Any] = {
        "Memory": args.memory,
        "MemoryReservation": args.memory_reservation,
        "NanoCpus": args.cpus,
        "CpuShares": args.cpu_shares,
        "PidsLimit": args.pids_limit,
    }
    if args.restart is not None:
        name, colon, retries = args.restart.partition(":")
        if colon and not retries.isdigit():
            raise UsageError(f"--restart: {args.restart!r} has no number after the colon")
        changes["RestartPolicy"] = {"Name": name, "MaximumRetryCount": int(retries or 0)}
    size = {"memory": args.vm_memory, "vcpu": args.vm_cpus}
    changes["Vm"] = {key: value for key, value in size.items() if value} or None
    changes = {key: value for key, value in changes.items() if value is not None}
    if not changes:
        raise UsageError("nothing to change: see 'hyper update --help'")
    client = session.client()
    return for_each(session, args.containers, lambda name: client.update_container(name, changes))
