"""The command line of `runv`, as runc's.

Started anew for each call, so it imports what a command needs when it runs.
"""

import argparse
import json
import os
import sys
import time
from typing import NoReturn

from .. import __version__
from ..errors import HyperError

ROOT = "/run/runv"
SPEC_VERSION = "1.0.2-dev"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SystemExit(fail(message, None, 1))


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(prog="runv", description="run OCI containers, each in a virtual machine")
    top.add_argument("--version", "-v", action="store_true", help="print the version")
    top.add_argument("--root", default=ROOT, help="directory of the containers' state")
    top.add_argument("--log", default="", help="file that errors are written to as well")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    top.add_argument("--debug", action="store_true", help="say more when something fails")
    top.add_argument("--systemd-cgroup", action="store_true", help=argparse.SUPPRESS)
    top.add_argument("--rootless", default="", help=argparse.SUPPRESS)
    top.add_argument("--driver", choices=("auto", "kvm", "tcg"), default="auto", help="the engine")
    top.add_argument("--kernel", help="guest kernel")
    top.add_argument("--initrd", help="guest initrd")
    top.add_argument(
        "--template",
        choices=("auto", "use", "off"),
        default=os.environ.get("HYPER_TEMPLATE", "auto"),
        help="clone a booted VM (auto: make a template when there is none)",
    )
    top.add_argument("--default_cpus", type=int, default=1, help="CPUs of a VM without limits")
    top.add_argument("--default_memory", type=int, default=128, help="memory of a VM in MiB")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    for name, text in (("create", "create a container"), ("run", "create and start a container")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--bundle", "-b", default=".", help="directory of config.json")
        command.add_argument("--console-socket", default="", help="socket that gets the terminal")
        command.add_argument("--pid-file", default="", help="file that gets the process id")
        command.add_argument("--no-pivot", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("--no-new-keyring", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("--preserve-fds", type=int, default=0, help=argparse.SUPPRESS)
        if name == "run":
            command.add_argument("--detach", "-d", action="store_true", help="do not wait")
            command.add_argument("--keep", action="store_true", help="keep it after its end")
        command.add_argument("id")

    commands.add_parser("start", help="start a created container").add_argument("id")

    command = commands.add_parser("exec", help="run another process in a container")
    command.add_argument("--console-socket", default="")
    command.add_argument("--pid-file", default="")
    command.add_argument("--process", "-p", default="", help="file with the process object")
    command.add_argument("--cwd", default="")
    command.add_argument("--env", "-e", action="append", default=[])
    command.add_argument("--user", "-u", default="")
    command.add_argument("--tty", "-t", action="store_true")
    command.add_argument("--detach", "-d", action="store_true")
    command.add_argument("--cap", "-c", action="append", default=[])
    command.add_argument("--no-new-privs", action="store_true")
    command.add_argument("--additional-gids", "-g", type=int, action="append", default=[])
    command.add_argument("id")
    command.add_argument("args", nargs=argparse.REMAINDER)

    command = commands.add_parser("kill", help="send a signal to a container")
    command.add_argument("--all", "-a", action="store_true", help="to all of its processes")
    command.add_argument("id")
    command.add_argument("signal", nargs="?", default="TERM")

    command = commands.add_parser("delete", help="delete a stopped container")
    command.add_argument("--force", "-f", action="store_true", help="kill it first")
    command.add_argument("id")

    commands.add_parser("state", help="print a container's state").add_argument("id")
    commands.add_parser("pause", help="suspend a container's processes").add_argument("id")
    commands.add_parser("resume", help="resume a paused container").add_argument("id")

    command = commands.add_parser("list", help="list the containers")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("--quiet", "-q", action="store_true", help="ids only")

    command = commands.add_parser("ps", help="list a container's processes")
    command.add_argument("--format", "-f", choices=("table", "json"), default="table")
    command.add_argument("id")
    command.add_argument("ps_args", nargs=argparse.REMAINDER)

    command = commands.add_parser("spec", help="write a default config.json")
    command.add_argument("--bundle", "-b", default=".")
    command.add_argument("--rootless", action="store_true", dest="spec_rootless")

    for name in ("update", "events", "checkpoint", "restore", "features"):
        commands.add_parser(name, add_help=False).add_argument("rest", nargs=argparse.REMAINDER)
    return top


def fail(message: str, args: argparse.Namespace | None, status: int) -> int:
    """Report an error on stderr and in the log file, in runc's form; returns `status`."""
    if args is not None and args.log:
        _log(args, message)
    sys.stderr.write(f"runv: {message}\n")
    return status


def _log(args: argparse.Namespace, message: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if args.log_format == "json":
        line = json.dumps({"level": "error", "msg": message, "time": stamp})
    else:
        line = f"time={json.dumps(stamp)} level=error msg={json.dumps(message)}"
    try:
        with open(args.log, "a") as log:
            log.write(line + "\n")
    except OSError as error:
        sys.stderr.write(f"runv: cannot write the log {args.log}: {error.strerror}\n")


def main(argv: list[str] | None = None) -> int:
    """Entry point of `runv`; returns the exit status."""
    args = parser().parse_args(argv)
    if args.version:
        sys.stdout.write(f"runv version {__version__}\nspec: {SPEC_VERSION}\n")
        return 0
    if args.command is None:
        parser().print_help()
        return 0
    if not os.path.isabs(args.root):
        args.root = os.path.abspath(args.root)
    try:
        return _dispatch(args)
    except HyperError as error:
        text = f"{error.message}\n{error.detail}" if args.debug and error.detail else error.message
        return fail(text, args, 1 if args.command != "exec" else error.exit_code or 255)
    except KeyboardInterrupt:
        return 130


def _dispatch(args: argparse.Namespace) -> int:
    match args.command:
        case "create" | "run":
            from . import create

            return create.create(args) if args.command == "create" else create.run(args)
        case "exec":
            from . import execute

            return execute.execute(args)
        case "spec":
            from . import bundle

            return bundle.write_spec(args.bundle)
        case "start" | "kill" | "delete" | "state" | "pause" | "resume" | "list" | "ps":
            from . import lifecycle

            handler = getattr(lifecycle, args.command if args.command != "list" else "list_all")
            return int(handler(args))
    return fail(f"{args.command}: not supported yet", args, 1)


if __name__ == "__main__":
    sys.exit(main())
