"""`hyper cp`, `hyper export` and `hyper diff`."""

from __future__ import annotations

import os
import posixpath
import sys

from ..errors import BadRequest, HyperError, NotFound
from .arguments import UsageError
from .output import show, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import tarfile
    from collections.abc import Callable
    from typing import IO, Any

    from ..client import Client
    from ..client.files import BodyFile
    from .arguments import Parser
    from .session import Session

_LINKS = 40
_GO_DIRECTORY = 1 << 31
_KINDS = {0: "C", 1: "A", 2: "D"}


def configure_cp(parser: Parser) -> None:
    """Options of `cp`."""
    parser.add_argument(
        "-a", "--archive", action="store_true", help="keep the owners (user and group ids)"
    )
    parser.add_argument(
        "-L", "--follow-link", action="store_true", help="follow a symlink at the source"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="accepted, nothing is printed")
    parser.add_argument("source", metavar="SOURCE", help="[CONTAINER:]PATH, or - for a tar archive")
    parser.add_argument("target", metavar="TARGET", help="[CONTAINER:]PATH, or - for a tar archive")


def command_cp(session: Session, args: argparse.Namespace) -> int:
    """`hyper cp`."""
    from_container, source = _split(args.source)
    to_container, target = _split(args.target)
    if from_container and to_container:
        raise UsageError("copying between containers is not supported: copy to the host first")
    if from_container:
        _copy_out(session.client(), from_container, source, target, args)
    elif to_container:
        _copy_in(session.client(), to_container, source, target, args)
    else:
        raise UsageError("one side must be CONTAINER:PATH: see 'hyper cp --help'")
    return 0


def _split(argument: str) -> tuple[str, str]:
    """The container (empty: none) and the path of an argument."""
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    if not container or not path:
        raise UsageError(f"{argument!r} is not CONTAINER:PATH")
    return container, path if path.startswith("/") else f"/{path}"


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."


def _base(path: str) -> str:
    """The last name of a path; `.` when it ends in it, which means what the directory holds."""
    if path.endswith("/.") or path == ".":
        return "."
    return posixpath.basename(path.rstrip("/")) or "."


# Out of a container


def _copy_out(
    client: Client, container: str, source: str, target: str, args: argparse.Namespace
) -> None:
    if args.follow_link:
        source = _resolved(client, container, source)[0]
    if target == "-":
        if sys.stdout.isatty():
            raise UsageError("a tar archive is not for a terminal: redirect the output")
        body, _ = client.get_archive(container, source)
        for piece in body.pieces():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    body, stat = client.get_archive(container, source)
    is_directory = bool(stat["mode"] & _GO_DIRECTORY)
    directory, name = _local_target(source, target, is_directory)
    from ..client.extract import Extractor

    extractor = Extractor(directory, _renamer(_base(source), name), keep_owner=args.archive)
    extractor.run(body)
    for path in extractor.skipped:
        tell(f"hyper: {path} is a device: not copied")


def _local_target(source: str, target: str, is_directory: bool) -> tuple[str, str]:
    """The host's directory to unpack in, and the name that the source gets there."""
    if os.path.isdir(target):
        return target, _base(source)
    if os.path.lexists(target) and is_directory:
        raise BadRequest(f"{target}: cannot copy a directory onto a file")
    if _asserts_directory(target) and not is_directory:
        raise BadRequest(f"{target}: no such directory")
    directory, name = os.path.split(target.rstrip("/"))
    if not os.path.isdir(directory or "."):
        raise BadRequest(f"{directory}: no such directory")
    return directory or ".", name


def _renamer(old: str, new: str) -> Callable[[str], str]:
    """Gives what is called `old`, and what is below it, the name `new` (`.`: none of its own)."""

    def rename(name: str) -> str:
        first, _, rest = name.partition("/")
        if first != old:
            raise BadRequest(f"the archive has {name!r} beside {old!r}")
        return "/".join(part for part in ("" if new == "." else new, rest) if part)

    return rename


def _resolved(client: Client, container: str, path: str) -> tuple[str, dict[str, Any]]:
    """Where a path leads when the symlinks at its end are followed, and what is there."""
    for _ in range(_LINKS):
        stat = client.stat_path(container, path)
        if not stat["linkTarget"]:
            return path, stat
        path = str(stat["linkTarget"])
    raise BadRequest(f"{container}:{path}: too many symlinks")


# Into a container


def _copy_in(
    client: Client, container: str, source: str, target: str, args: argparse.Namespace
) -> None:
    is_directory: bool | None = None
    try:
        target_path, stat = _resolved(client, container, target)
        is_directory = bool(stat["mode"] & _GO_DIRECTORY)
        target = target_path if not target.endswith("/") else target_path.rstrip("/") + "/"
    except NotFound:
        client.inspect_container(container)
    if source == "-":
        if not is_directory:
            raise BadRequest(f"{container}:{target}: no such directory for the archive")
        client.put_archive(container, target, sys.stdin.buffer)
        return
    if args.follow_link:
        source = os.path.realpath(source) + ("/." if source.endswith("/.") else "")
    if not os.path.lexists(source):
        raise NotFound(f"{source}: no such file or directory")
    plain = os.path.isdir(source) and (source.endswith("/.") or not os.path.islink(source))
    if is_directory:
        directory, name = target, _base(os.path.normpath(source))
        name = "." if _base(source) == "." else name
    elif is_directory is False and plain:
        raise BadRequest(f"{container}:{target}: cannot copy a directory onto a file")
    elif _asserts_directory(target) and not plain:
        raise BadRequest(f"{container}:{target}: no such directory")
    else:
        directory, name = posixpath.split(target.rstrip("/"))
    _upload(client, container, directory or "/", source, name, keep_owner=args.archive)


def _upload(
    client: Client, container: str, directory: str, source: str, name: str, *, keep_owner: bool
) -> None:
    """Send a file or directory under another name, made into an archive as it is sent."""
    import threading

    read_end, write_end = os.pipe()
    errors: list[BaseException] = []

    def pack() -> None:
        try:
            with os.fdopen(write_end, "wb") as file:
                _pack(file, source, name, keep_owner=keep_owner)
        except BrokenPipeError:
            pass  # hyperd's answer says why
        except BaseException as error:
            errors.append(error)

    packer = threading.Thread(target=pack, daemon=True)
    packer.start()
    try:
        with os.fdopen(read_end, "rb") as archive:
            client.put_archive(container, directory, archive)
    except HyperError:
        if not errors:
            raise
    finally:
        packer.join(timeout=60)
    if errors:
        raise errors[0]


def _pack(file: IO[bytes], source: str, name: str, *, keep_owner: bool) -> None:
    import tarfile

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uname = member.gname = ""
        if not keep_owner:
            member.uid = member.gid = 0
        return member

    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.add(source, arcname=name, filter=owned)


# Others


def configure_export(parser: Parser) -> None:
    """Options of `export`."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")
    parser.add_argument("container", metavar="CONTAINER")


def command_export(session: Session, args: argparse.Namespace) -> int:
    """`hyper export`."""
    if not args.output and sys.stdout.isatty():
        raise UsageError("a tar archive is not for a terminal: use --output or redirect")
    write_body(session.client().export(args.container), args.output)
    return 0


def write_body(body: BodyFile, output: str | None) -> None:
    """Write an archive to a file, which is there when it is whole, or to stdout."""
    if not output:
        for piece in body.pieces():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    partial = f"{output}.part"
    try:
        with open(partial, "wb") as file:
            for piece in body.pieces():
                file.write(piece)
        os.replace(partial, output)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def configure_diff(parser: Parser) -> None:
    """Options of `diff`."""
    parser.add_argument("container", metavar="CONTAINER")


def command_diff(session: Session, args: argparse.Namespace) -> int:
    """`hyper diff`."""
    for change in session.client().changes(args.container):
        show(f"{_KINDS[change['Kind']]} {change['Path']}")
    return 0
