"""`runv create` and `runv run`."""

import os

from ..errors import BadRequest, NotSupported
from ..quick import signals
from ..quick.types import Any, Callable
from . import bundle, making, records
from .arguments import Arguments
from .lifecycle import destroy, run_poststart, start_container
from .making import Settings, Wanted
from .pid_file import check_pid_file, remove_pid_file, write_pid_file
from .records import Record
from .streams import forward_signals, open_streams


def create(args: Arguments) -> int:
    """Create a container; its program waits for `runv start`."""
    wanted = _load(args, detach=True)
    with making.Reservation(args.root, args.id):
        _create(args, wanted)
    return 0


def run(args: Arguments) -> int:
    """Create and start a container, and unless detached wait for it and delete it."""
    wanted = _load(args, detach=args.detach)
    wants_terminal = bool(wanted.config["process"].get("terminal"))
    if args.detach or not wants_terminal or args.console_socket:
        return _run(args, wanted)
    from .terminal import own_terminal

    with own_terminal() as own:
        return _run(args, wanted, own)


def _load(args: Arguments, *, detach: bool) -> Wanted:
    """What is wanted, found good before anything is made."""
    config, rootfs = bundle.load(args.bundle)
    records.check_id(args.id)
    if args.preserve_fds > 0:
        raise NotSupported(
            "--preserve-fds is not supported: a file descriptor of the host means nothing to a"
            " program in a VM"
        )
    wants_terminal = bool(config["process"].get("terminal"))
    if detach and wants_terminal and not args.console_socket:
        raise BadRequest(
            "cannot allocate tty if runv will detach without setting console socket:"
            " use --console-socket"
        )
    if args.console_socket and not (detach and wants_terminal):
        raise BadRequest("cannot use console socket if runv will not detach or allocate tty")
    making.check(config, rootfs, args.bundle)
    check_pid_file(args.pid_file)
    return Wanted(args.id, args.bundle, config, rootfs)


def _run(args: Arguments, wanted: Wanted, own: int = 0) -> int:
    with making.Reservation(args.root, args.id):
        record = _start(args, wanted, own)
        run_poststart(record)
        if args.detach:
            return 0
        if bool(record["terminal"]) and not args.console_socket:
            os.kill(record["pid"], signals.SIGWINCH)
    code = os.waitstatus_to_exitcode(os.waitpid(record["pid"], 0)[1])
    if not args.keep:
        with records.locked(args.root, args.id):
            destroy(args.root, args.id)
    return code if code >= 0 else 128 - code


def _start(args: Arguments, wanted: Wanted, own: int) -> Record:
    """Create and start the container: by one request, unless hooks run in between."""

    def starting(record: Record) -> None:
        write_pid_file(args.pid_file, record["pid"])
        forward_signals(record["pid"])

    if not (wanted.config.get("hooks") or {}).get("startContainer"):
        try:
            return _make(args, wanted, own, starting)
        except BaseException:
            remove_pid_file(args.pid_file)
            raise
    record = _create(args, wanted, own)
    forward_signals(record["pid"])
    start_container(args.root, record)
    return record


def _create(args: Arguments, wanted: Wanted, own: int = 0) -> Record:
    record = _make(args, wanted, own)
    write_pid_file(args.pid_file, record["pid"])
    return record


def _make(
    args: Arguments,
    wanted: Wanted,
    own: int,
    starting: Callable[[Record], None] | None = None,
) -> Record:
    process: dict[str, Any] = wanted.config["process"]
    streams = open_streams(bool(process.get("terminal")), args.console_socket, own)
    try:
        return making.make(_settings(args), wanted, streams, starting=starting)
    finally:
        streams.close()


def _settings(args: Arguments) -> Settings:
    return Settings(
        root=args.root,
        systemd_cgroup=args.systemd_cgroup,
        no_pivot=args.no_pivot,
        cache=args.cache,
        driver=args.driver,
        kernel=args.kernel,
        initrd=args.initrd,
        bios=args.bios and os.path.abspath(args.bios),
        cbfs=args.cbfs and os.path.abspath(args.cbfs),
        cpus=args.default_cpus,
        memory_mib=args.default_memory,
        template=args.template,
        share=args.share,
        ephemeral=args.command == "run" and not (args.detach or args.keep),
    )
