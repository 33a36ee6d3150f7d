"""The options of `run` and `create` on what a container may take and do within its VM."""

from __future__ import annotations

import argparse
import re

from .arguments import UsageError, cpu_count, memory_mib, nano_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .arguments import Parser

_ULIMIT = re.compile(r"([a-z]+)=(-?\d+)(?::(-?\d+))?", re.ASCII)
_UNCONFINED = ("seccomp=unconfined", "apparmor=unconfined", "label=disable")
_REFUSED = {
    "--init": "not supported: use an image whose program reaps processes, such as tini",
    "--privileged": "not supported: --cap-add ALL gives every capability, within the VM",
    "--oom-kill-disable": "not supported: cgroup v2 has no such switch",
    "--memory-swap": "not supported: a guest has no swap",
    "--memory-swappiness": "not supported: a guest has no swap",
    "--cpuset-cpus": "not supported: a container may use all processors of its VM",
    "--device": "not supported: devices of the host are not in the VM; for disks there is --mount",
    "--pid": "not supported: containers have namespaces of their own in a VM of their own",
    "--ipc": "not supported: containers have namespaces of their own in a VM of their own",
    "--userns": "not supported: the VM is what isolates a container's root",
}


class _Refused(argparse.Action):
    """An option of Docker's that is refused with the reason."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        raise UsageError(f"{option_string}: {_REFUSED[option_string or '']}")


def add_options(parser: Parser) -> None:
    """Add them."""
    add = parser.add_argument
    add("--cpu", dest="vcpus", type=cpu_count, metavar="N", help="virtual CPUs of the VM")
    add(
        "--cpus",
        type=nano_cpus,
        metavar="N",
        help="processor time of the container: 1.5; the VM gets as many virtual CPUs, rounded up,"
        " unless --cpu says how many",
    )
    add("--cpu-shares", type=int, metavar="N", help="its weight in its VM, 2 to 262144")
    add("--memory-reservation", type=memory_mib, metavar="SIZE", help="kept when memory is short")
    add("--pids-limit", type=int, metavar="N", help="limit of processes; -1 or 0: none")
    add("--shm-size", metavar="SIZE", help="size of /dev/shm (default: 64m)")
    for name, metavar, text in (
        ("--ulimit", "NAME=SOFT[:HARD]", "a limit of each process: nofile=1024:2048"),
        ("--sysctl", "NAME=VALUE", "set a kernel parameter of the guest"),
        ("--cap-add", "CAPABILITY", "give one more (ALL: every one)"),
        ("--cap-drop", "CAPABILITY", "take one away (ALL: every one)"),
        ("--group-add", "GROUP", "one more group of the user, by name or number"),
        ("--security-opt", "OPTION", "no-new-privileges"),
    ):
        add(name, action="append", default=[], metavar=metavar, help=text)
    for name in _REFUSED:
        add(name, action=_Refused, nargs="?", help=argparse.SUPPRESS)


def vcpus(args: argparse.Namespace) -> int | None:
    """The virtual CPUs of the VM; None: as hyperd decides."""
    if args.vcpus is None and args.cpus is not None:
        return int(-(-args.cpus // 10**9))
    count: int | None = args.vcpus
    return count


def container_keys(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of a container's specification. Raises UsageError."""
    whole_vm = not args.pod and args.cpus == (vcpus(args) or 0) * 10**9
    resources = {
        "nanoCpus": None if whole_vm else args.cpus,
        "cpuShares": args.cpu_shares,
        "memoryReservation": (args.memory_reservation or 0) << 20,
        "pids": max(args.pids_limit or 0, 0),
    }
    keys: dict[str, Any] = {
        "resources": {key: value for key, value in resources.items() if value},
        "ulimits": [_ulimit(text) for text in args.ulimit],
        "sysctl": dict(_sysctl(text) for text in args.sysctl),
        "capAdd": args.cap_add,
        "capDrop": args.cap_drop,
        "noNewPrivileges": _no_new_privileges(args.security_opt),
        "shmSize": args.shm_size,
    }
    if args.group_add:
        name, _, group = args.user.partition(":")
        user = {"name": name, "group": group, "additionalGroups": args.group_add}
        keys["user"] = {key: value for key, value in user.items() if value}
    return {key: value for key, value in keys.items() if value}


def _ulimit(text: str) -> dict[str, Any]:
    match = _ULIMIT.fullmatch(text)
    if not match:
        raise UsageError(f"--ulimit: {text!r} is not NAME=SOFT[:HARD]")
    soft = int(match[2])
    return {"Name": match[1], "Soft": soft, "Hard": int(match[3] or soft)}


def _sysctl(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--sysctl: {text!r} is not NAME=VALUE")
    return name, value


def _no_new_privileges(options: list[str]) -> bool:
    wanted = False
    for text in options:
        name, _, value = text.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            wanted = value != "false"
        elif text.replace(":", "=", 1) not in _UNCONFINED:
            raise UsageError(
                f"--security-opt: {text!r} is not supported: no-new-privileges is; no profile of"
                " the host is applied in a VM"
            )
    return wanted
