"""runv's command line, as runc 1.1's."""

import argparse
import os
import sys
from typing import Any, NoReturn

from ..errors import BadRequest
from ..hypervisor.engines import CHOICES
from .main import ROOT, fail

_SUMMARY = "Open Container Initiative runtime: each container in a virtual machine of its own"
_HIDDEN = argparse.SUPPRESS
_NO_TOPIC = 3
_HELP = frozenset(("help", "--help", "-h"))


def program() -> str:
    """What we were called as: an engine may know us by the name of runc."""
    name = os.path.basename(sys.argv[0])
    return name if name in ("runv", "runc", "crun") else "runv"


class Parser(argparse.ArgumentParser):
    """Errors in one line with runc's status, help in the order of runc's."""

    def error(self, message: str) -> NoReturn:
        """Part of ArgumentParser."""
        raise SystemExit(fail(message, None, 1))

    def format_help(self) -> str:
        """Part of ArgumentParser."""
        return f"NAME:\n   {self.prog} - {self.description}\n\n{super().format_help()}"


def parser(argv: list[str] | None = None) -> Parser:
    """The parser of the whole command line, or of as much of it as `argv` needs."""
    name = program()
    wanted = None if argv is None or _HELP.intersection(argv) else frozenset(argv)
    top = Parser(prog=name, description=_SUMMARY, allow_abbrev=False)
    top.add_argument("--version", "-v", action="store_true", help="print the version")
    top.add_argument("--root", default=ROOT, help="directory of the containers' state")
    top.add_argument("--log", default="", help="file that errors are written to as well")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    top.add_argument("--debug", action="store_true", help="say more when something fails")
    top.add_argument("--systemd-cgroup", action="store_true", help="cgroupsPath is systemd's")
    top.add_argument("--rootless", default="auto", help=_HIDDEN)
    top.add_argument("--criu", default="", help=_HIDDEN)
    top.add_argument("--driver", choices=CHOICES, default="auto", help="the engine")
    top.add_argument(
        "--template",
        choices=("auto", "use", "off"),
        default=os.environ.get("HYPER_TEMPLATE", "auto"),
        help="clone a booted VM (auto: make a template when there is none)",
    )
    top.add_argument(
        "--cache",
        type=int,
        default=int(os.environ.get("HYPER_CACHED_VMS", "1")),
        metavar="N",
        help="VMs kept ready for the next runs, for five minutes after the last (0: none)",
    )
    top.add_argument(
        "--share",
        choices=("9p", "virtiofs"),
        default=os.environ.get("HYPER_SHARE", "9p"),
        help="how the root file system and bind mounts get into the VM",
    )
    top.add_argument("--kernel", help="guest kernel")
    top.add_argument("--initrd", help="guest initrd")
    top.add_argument("--bios", help="the VM's firmware")
    top.add_argument("--cbfs", help="boot the kernel and initrd of this flash (see `make cbfs`)")
    top.add_argument("--default_cpus", type=int, default=1, help="CPUs of a VM without limits")
    top.add_argument("--default_memory", type=int, default=128, help="memory of a VM in MiB")
    commands = _Commands(
        top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, prog=name),
        name,
        wanted,
    )
    _add_lifecycle(commands)
    _add_exec(commands)
    _add_queries(commands)
    _add_update(commands)
    for refused, text in (
        ("checkpoint", "checkpoint a running container (not supported)"),
        ("restore", "restore a container from a checkpoint (not supported)"),
    ):
        commands.add(refused, text)
    commands.add("help", "show the help, of a command too").add_argument("topic", nargs="?")
    return top


class _Unused:
    """Stands for the parser of a command that nobody called."""

    def add_argument(self, *names: str, **options: Any) -> None:
        """As ArgumentParser's, but for the argument."""


class _Commands:
    """Adds commands with their help; of those that are not `wanted` nothing is made."""

    def __init__(
        self,
        subparsers: "argparse._SubParsersAction[Parser]",
        name: str,
        wanted: frozenset[str] | None,
    ) -> None:
        self._subparsers = subparsers
        self._name = name
        self._wanted = wanted

    def add(self, command: str, text: str) -> "Parser | _Unused":
        if self._wanted is not None and command not in self._wanted:
            return _Unused()
        return self._subparsers.add_parser(
            command, help=text, description=text, prog=f"{self._name} {command}", allow_abbrev=False
        )


def _add_lifecycle(commands: _Commands) -> None:
    for name, text in (("create", "create a container"), ("run", "create and run a container")):
        command = commands.add(name, text)
        command.add_argument("--bundle", "-b", default=".", help="directory of config.json")
        command.add_argument("--console-socket", default="", help="socket that gets the terminal")
        command.add_argument("--pid-file", default="", help="file that gets the process id")
        command.add_argument("--no-pivot", action="store_true", help=_HIDDEN)
        command.add_argument("--no-new-keyring", action="store_true", help=_HIDDEN)
        command.add_argument("--no-subreaper", action="store_true", help=_HIDDEN)
        command.add_argument("--preserve-fds", type=int, default=0, help=_HIDDEN)
        if name == "run":
            command.add_argument("--detach", "-d", action="store_true", help="do not wait")
            command.add_argument("--keep", action="store_true", help="keep it after its end")
        command.add_argument("id")
    commands.add("start", "start a created container").add_argument("id")
    command = commands.add("kill", "send a signal to a container's first process")
    command.add_argument("--all", "-a", action="store_true", help="to all of its processes")
    command.add_argument("id")
    command.add_argument("signal", nargs="?", default="TERM")
    command = commands.add("delete", "delete a stopped container")
    command.add_argument("--force", "-f", action="store_true", help="kill it first")
    command.add_argument("id")
    commands.add("pause", "suspend a container's processes").add_argument("id")
    commands.add("resume", "resume a paused container").add_argument("id")


def _add_exec(commands: _Commands) -> None:
    command = commands.add("exec", "run another process in a container")
    command.add_argument("--console-socket", default="", help="socket that gets the terminal")
    command.add_argument("--pid-file", default="", help="file that gets the process id")
    command.add_argument("--process", "-p", default="", help="file with the process object")
    command.add_argument("--cwd", default="", help="working directory")
    command.add_argument("--env", "-e", action="append", default=[], help="NAME=VALUE")
    command.add_argument("--user", "-u", default="", help="UID[:GID]")
    command.add_argument("--additional-gids", "-g", type=int, action="append", default=[])
    command.add_argument("--tty", "-t", action="store_true", help="allocate a terminal")
    command.add_argument("--detach", "-d", action="store_true", help="do not wait")
    command.add_argument("--cap", "-c", action="append", default=[], help="further capability")
    command.add_argument("--no-new-privs", action="store_true")
    command.add_argument("--ignore-paused", action="store_true", help="also while it is paused")
    command.add_argument("--process-label", default="", help=_HIDDEN)
    command.add_argument("--apparmor", default="", help=_HIDDEN)
    command.add_argument("--cgroup", action="append", default=[], help=_HIDDEN)
    command.add_argument("--preserve-fds", type=int, default=0, help=_HIDDEN)
    command.add_argument("--no-subreaper", action="store_true", help=_HIDDEN)
    command.add_argument("id")
    command.add_argument("args", nargs=argparse.REMAINDER)


def _add_queries(commands: _Commands) -> None:
    commands.add("state", "print a container's state").add_argument("id")
    command = commands.add("list", "list the containers")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("--quiet", "-q", action="store_true", help="ids only")
    command = commands.add("ps", "list a container's processes")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("id")
    command.add_argument("ps_args", nargs=argparse.REMAINDER)
    command = commands.add("spec", "write a default config.json")
    command.add_argument("--bundle", "-b", default=".")
    command.add_argument("--rootless", action="store_true", dest="spec_rootless", help=_HIDDEN)
    command = commands.add("events", "print a container's statistics and events")
    command.add_argument("--interval", default="5s", help="time between statistics: 5s, 100ms")
    command.add_argument("--stats", action="store_true", help="print them once")
    command.add_argument("id")
    commands.add("features", "print what is supported, as JSON")


def _add_update(commands: _Commands) -> None:
    command = commands.add("update", "change a container's limits")
    command.add_argument("--resources", "-r", default="", help="file with them as JSON, - is stdin")
    for flag in ("memory", "memory-reservation", "memory-swap"):
        command.add_argument(f"--{flag}", type=size, help="bytes, or with a unit: 64M; -1: none")
    for flag in ("cpu-period", "cpu-quota", "cpu-share", "pids-limit"):
        command.add_argument(f"--{flag}", type=int)
    command.add_argument("--cpuset-cpus", help="CPUs of the host for the VM: 0-2,4")
    command.add_argument("--cpuset-mems", help="memory nodes of the host for the VM")
    for flag in ("cpu-rt-period", "cpu-rt-runtime", "blkio-weight"):
        command.add_argument(f"--{flag}", type=int, help=_HIDDEN)
    for flag in ("kernel-memory", "kernel-memory-tcp"):
        command.add_argument(f"--{flag}", type=size, help=_HIDDEN)
    for flag in ("l3-cache-schema", "mem-bw-schema"):
        command.add_argument(f"--{flag}", help=_HIDDEN)
    command.add_argument("id")


def size(text: str) -> int:
    """A number of bytes, with a unit of 1024 or none. Raises ArgumentTypeError."""
    number, unit = text.strip(), 1
    lower = number.lower().removesuffix("b").removesuffix("i")
    if lower and lower[-1] in "kmgtp":
        number, unit = lower[:-1], 1024 ** ("kmgtp".index(lower[-1]) + 1)
    try:
        return int(float(number) * unit) if "." in number else int(number) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}") from None


def show_help(top: Parser, topic: str | None) -> int:
    """Print the help of the program or of a command. Raises BadRequest for an unknown one."""
    if topic is None:
        top.print_help()
        return 0
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction) and topic in action.choices:
            action.choices[topic].print_help()
            return 0
    raise BadRequest(f"No help topic for {topic!r}")


def unknown_command(top: Parser, argv: list[str]) -> int:
    """As runc: a first word that is no command is a help topic that does not exist."""
    known = {
        name
        for action in top._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    }
    takes_value = {
        option
        for action in top._actions
        if action.nargs is None
        for option in action.option_strings
    }
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in takes_value
        elif word not in known:
            return fail(f"No help topic for {word!r}", None, _NO_TOPIC)
        else:
            break
    return 0
