"""runv's command line, as runc 1.1's: its options and commands, for argparse and `arguments`."""

import os

from ..hypervisor.engines import CHOICES
from ..quick.types import Any, NamedTuple
from .main import ROOT

# What an option takes: nothing, a text, a number, a number of bytes, and any number of them.
FLAG, TEXT, NUMBER, SIZE, TEXTS, NUMBERS = "flag", "text", "number", "size", "texts", "numbers"
# A word without a flag: one, one or none, all that follow.
ONE, OPTIONAL, REST = "one", "optional", "rest"


class Option(NamedTuple):
    """One that is named by `flags`, the first of which gives the name; without `help` a secret."""

    flags: tuple[str, ...]
    kind: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    metavar: str = ""
    dest: str = ""

    @property
    def name(self) -> str:
        """What `Arguments` call it."""
        return self.dest or self.flags[0].lstrip("-").replace("-", "_")


class Word(NamedTuple):
    """One that is known by its place."""

    name: str
    how_many: str = ONE
    default: Any = None


class Command(NamedTuple):
    """A command, what it does, and what it takes."""

    help: str
    options: tuple[Option, ...]
    words: tuple[Word, ...]


def global_options() -> tuple[Option, ...]:
    """Those before the command, some of which the environment may set."""
    template = os.environ.get("HYPER_TEMPLATE", "auto")
    cached = os.environ.get("HYPER_CACHED_VMS", "1")
    share = os.environ.get("HYPER_SHARE", "9p")
    return (
        _flag("--version", "-v", help="print the version"),
        _text("--root", default=ROOT, help="directory of the containers' state"),
        _text("--log", help="file that errors are written to as well"),
        _text("--log-format", default="text", choices=("text", "json"), help="form of that file"),
        _flag("--debug", help="say more when something fails"),
        _flag("--systemd-cgroup", help="cgroupsPath is systemd's"),
        _text("--rootless", default="auto"),
        _text("--criu"),
        _text("--driver", default="auto", choices=CHOICES, help="the engine"),
        _text(
            "--template",
            default=template,
            choices=("auto", "use", "off"),
            help="clone a booted VM (auto: make a template when there is none)",
        ),
        Option(
            ("--cache",),
            NUMBER,
            cached,
            "VMs kept ready for the next runs, for five minutes after the last (0: none)",
            metavar="N",
        ),
        _text(
            "--share",
            default=share,
            choices=("9p", "virtiofs"),
            help="how the root file system and bind mounts get into the VM",
        ),
        _text("--kernel", default=None, help="guest kernel"),
        _text("--initrd", default=None, help="guest initrd"),
        _text("--bios", default=None, help="the VM's firmware"),
        _text(
            "--cbfs",
            default=None,
            help="boot the kernel and initrd of this flash (see `make cbfs`)",
        ),
        Option(("--default_cpus",), NUMBER, 1, "CPUs of a VM without limits"),
        Option(("--default_memory",), NUMBER, 128, "memory of a VM in MiB"),
    )


def _flag(*flags: str, help: str = "", dest: str = "") -> Option:
    return Option(flags, FLAG, False, help, dest=dest)


def _text(
    *flags: str, default: str | None = "", choices: tuple[str, ...] = (), help: str = ""
) -> Option:
    return Option(flags, TEXT, default, help, choices)


_ID = Word("id")
_BUNDLE = _text("--bundle", "-b", default=".", help="directory of config.json")
_CONSOLE = _text("--console-socket", help="socket that gets the terminal")
_PID_FILE = _text("--pid-file", help="file that gets the process id")
_DETACH = _flag("--detach", "-d", help="do not wait")
_NO_SUBREAPER = _flag("--no-subreaper")
_PRESERVE_FDS = Option(("--preserve-fds",), NUMBER, 0, "")
_FORMAT = _text(
    "--format", "-f", default="table", choices=("table", "json"), help="form of the output"
)
_CREATE = (
    *(_BUNDLE, _CONSOLE, _PID_FILE, _flag("--no-pivot"), _flag("--no-new-keyring")),
    *(_NO_SUBREAPER, _PRESERVE_FDS),
)
_EXEC = (
    _CONSOLE,
    _PID_FILE,
    _text("--process", "-p", help="file with the process object"),
    _text("--cwd", help="working directory"),
    Option(("--env", "-e"), TEXTS, [], "NAME=VALUE"),
    _text("--user", "-u", help="UID[:GID]"),
    Option(("--additional-gids", "-g"), NUMBERS, [], "further group"),
    _flag("--tty", "-t", help="allocate a terminal"),
    _DETACH,
    Option(("--cap", "-c"), TEXTS, [], "further capability"),
    _flag("--no-new-privs", help="exec gains no privileges"),
    _flag("--ignore-paused", help="also while it is paused"),
    _text("--process-label"),
    _text("--apparmor"),
    Option(("--cgroup",), TEXTS, [], ""),
    _PRESERVE_FDS,
    _NO_SUBREAPER,
)
_LIMIT = "bytes, or with a unit: 64M; -1: none"
_UPDATE = (
    _text("--resources", "-r", help="file with them as JSON, - is stdin"),
    *(
        Option((f"--{name}",), SIZE, None, _LIMIT)
        for name in ("memory", "memory-reservation", "memory-swap")
    ),
    Option(("--cpu-period",), NUMBER, None, "microseconds that the quota is for"),
    Option(("--cpu-quota",), NUMBER, None, "microseconds of CPU time in a period; -1: no limit"),
    Option(("--cpu-share",), NUMBER, None, "weight against other containers"),
    Option(("--pids-limit",), NUMBER, None, "processes; -1: no limit"),
    _text("--cpuset-cpus", default=None, help="CPUs of the host for the VM: 0-2,4"),
    _text("--cpuset-mems", default=None, help="memory nodes of the host for the VM"),
    *(
        Option((f"--{name}",), NUMBER, None, "")
        for name in ("cpu-rt-period", "cpu-rt-runtime", "blkio-weight")
    ),
    *(Option((f"--{name}",), SIZE, None, "") for name in ("kernel-memory", "kernel-memory-tcp")),
    *(_text(f"--{name}", default=None) for name in ("l3-cache-schema", "mem-bw-schema")),
)
_STATS = (
    _text("--interval", default="5s", help="time between statistics: 5s, 100ms"),
    _flag("--stats", help="print them once"),
)
_SPEC = (
    _text("--bundle", "-b", default=".", help="directory to write it to"),
    _flag("--rootless", dest="spec_rootless"),
)

COMMANDS = {
    "create": Command("create a container", _CREATE, (_ID,)),
    "run": Command(
        "create and run a container",
        (*_CREATE, _DETACH, _flag("--keep", help="keep it after its end")),
        (_ID,),
    ),
    "start": Command("start a created container", (), (_ID,)),
    "kill": Command(
        "send a signal to a container's first process",
        (_flag("--all", "-a", help="to all of its processes"),),
        (_ID, Word("signal", OPTIONAL, "TERM")),
    ),
    "delete": Command(
        "delete a stopped container", (_flag("--force", "-f", help="kill it first"),), (_ID,)
    ),
    "pause": Command("suspend a container's processes", (), (_ID,)),
    "resume": Command("resume a paused container", (), (_ID,)),
    "exec": Command("run another process in a container", _EXEC, (_ID, Word("args", REST))),
    "state": Command("print a container's state", (), (_ID,)),
    "list": Command("list the containers", (_FORMAT, _flag("--quiet", "-q", help="ids only")), ()),
    "ps": Command("list a container's processes", (_FORMAT,), (_ID, Word("ps_args", REST))),
    "spec": Command("write a default config.json", _SPEC, ()),
    "events": Command("print a container's statistics and events", _STATS, (_ID,)),
    "features": Command("print what is supported, as JSON", (), ()),
    "update": Command("change a container's limits", _UPDATE, (_ID,)),
    "checkpoint": Command("checkpoint a running container (not supported)", (), ()),
    "restore": Command("restore a container from a checkpoint (not supported)", (), ()),
    "help": Command("show the help, of a command too", (), (Word("topic", OPTIONAL),)),
}
