"""runv's entry point.

Engines start it anew for each call, so it imports what a command needs when it
runs; `state`, which they call all the time, does with less than the others.
"""

import sys

ROOT = "/run/runv"
SPEC_VERSION = "1.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arguments import Arguments
    from .parser import Parser


def parser() -> "Parser":
    """The parser of the whole command line."""
    from . import parser as module

    return module.parser()


def fail(message: str, args: "Arguments | None", status: int) -> int:
    """Report an error on stderr and in the log file, in runc's form; returns `status`."""
    if args is not None and args.log:
        _log(args.log, args.log_format, message)
    sys.stderr.write(f"runv: {message}\n")
    return status


def _log(path: str, form: str, message: str) -> None:
    import json
    import time

    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if form == "json":
        line = json.dumps({"level": "error", "msg": message, "time": stamp})
    else:
        line = f"time={json.dumps(stamp)} level=error msg={json.dumps(message)}"
    try:
        with open(path, "a") as log:
            log.write(line + "\n")
    except OSError as error:
        sys.stderr.write(f"runv: cannot write the log {path}: {error.strerror}\n")


def main(argv: list[str] | None = None) -> int:
    """Entry point of `runv`; returns the exit status."""
    if argv is None:
        argv = sys.argv[1:]
    from .state import quick_state

    text = quick_state(argv, ROOT)
    if text is not None:
        sys.stdout.write(text)
        return 0
    return _main(argv)


def _main(argv: list[str]) -> int:
    import os

    from ..errors import HyperError
    from .arguments import parse_plain

    args = parse_plain(argv)
    if args is None:
        from . import parser as module

        found = module.parse(argv)
        if isinstance(found, int):
            return found
        args = found
    if args.version:
        return _show_version()
    args.root = os.path.abspath(args.root)
    try:
        if args.command in (None, "help"):
            from .parser import show_help

            return show_help(parser(), getattr(args, "topic", None))
        return _dispatch(args)
    except HyperError as error:
        text = f"{error.message}\n{error.detail}" if args.debug and error.detail else error.message
        if error.exit_code in (126, 127):
            text = f"{args.command} failed: unable to start container process: {text}"
        return fail(text, args, 255 if args.command == "exec" else 1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Engines show the last entry of the log; a traceback they would lose.
        if args.debug:
            import traceback

            traceback.print_exc()
        what = str(error) if isinstance(error, OSError) else f"internal error: {error!r}"
        return fail(f"{args.command} failed: {what}", args, 255 if args.command == "exec" else 1)


def _show_version() -> int:
    from .. import __version__
    from .parser import program

    sys.stdout.write(f"{program()} version {__version__}\ncommit: v{__version__}\n")
    sys.stdout.write(f"spec: {SPEC_VERSION}\n")
    return 0


def _dispatch(args: "Arguments") -> int:
    match args.command:
        case "create" | "run":
            from . import create

            return create.create(args) if args.command == "create" else create.run(args)
        case "exec":
            from . import execute

            return execute.execute(args)
        case "spec":
            from . import bundle

            return bundle.write_spec(args.bundle, rootless=args.spec_rootless)
        case "update":
            from . import update

            return update.update(args)
        case "events":
            from . import events

            return events.events(args)
        case "features":
            from . import features

            return features.features()
        case "checkpoint" | "restore":
            from ..errors import NotSupported

            raise NotSupported(
                f"{args.command} is not supported: runv has no snapshot of a single container"
            )
    from . import lifecycle

    handler = getattr(lifecycle, args.command if args.command != "list" else "list_all")
    return int(handler(args))


if __name__ == "__main__":
    sys.exit(main())
