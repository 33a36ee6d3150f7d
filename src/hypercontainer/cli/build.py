"""`hyper build`: sends a context to hyperd, which builds an image of it."""

from __future__ import annotations

import os
import sys

from ..errors import BadRequest, HyperError
from .arguments import UsageError, add_platform, environment, labels, memory_mib
from .output import show, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import tarfile
    from typing import IO

    from .arguments import Parser
    from .session import Session

_BLOCK = 1 << 20
_SPOOL = 64 << 20
_DOCKERFILE_LIMIT = 4 << 20
_OUTSIDE = ".dockerfile.hyper"


def configure_build(parser: Parser) -> None:
    """Options of `build`."""
    add = parser.add_argument
    add("-t", "--tag", action="append", default=[], metavar="NAME[:TAG]", help="name the image")
    add("-f", "--file", metavar="FILE", help="the Dockerfile (default: PATH/Dockerfile; - : stdin)")
    add(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="the value of an ARG; without one, that of our environment",
    )
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="set a label")
    add("--target", default="", metavar="STAGE", help="build this stage (default: the last)")
    add("--no-cache", action="store_true", help="do each step again")
    add("--pull", action="store_true", help="pull base images also when they are here")
    add("-q", "--quiet", action="store_true", help="print only the image's id")
    add(
        "-m",
        "--memory",
        type=memory_mib,
        default=0,
        metavar="SIZE",
        help="memory of the VMs in which RUN runs (default: 512m)",
    )
    add_platform(parser)
    add("path", metavar="PATH|-")


def command_build(session: Session, args: argparse.Namespace) -> int:
    """`hyper build`."""
    import tempfile

    client = session.client()
    with tempfile.SpooledTemporaryFile(_SPOOL) as file:
        name, dockerfile = _context(args, file)
        file.seek(0)
        lines = client.build(
            file,
            tags=args.tag,
            dockerfile=name,
            arguments=environment(args.build_arg, []),
            labels=labels(args.label),
            target=args.target,
            cache=not args.no_cache,
            pull=args.pull,
            memory=args.memory << 20,
            platform=args.platform,
            registry_config=_registry_config(dockerfile),
        )
        image_id, last = "", ""
        for line in lines:
            if "stream" in line and not args.quiet:
                sys.stdout.write(line["stream"])
                sys.stdout.flush()
            elif "aux" in line:
                image_id = str(line["aux"].get("ID", ""))
            elif (status := line.get("status", "")) and not args.quiet:
                text = f"{line['id']}: {status}" if line.get("id") else status
                if text != last and "progressDetail" not in line:
                    tell(text)
                last = text
    if args.quiet:
        show(image_id)
    return 0


def _context(args: argparse.Namespace, file: IO[bytes]) -> tuple[str, bytes]:
    """Write the context's archive; the Dockerfile's name in it, and its content."""
    if args.path == "-":
        return _from_stdin(args, file)
    if "://" in args.path or args.path.startswith("git@"):
        raise UsageError(f"build {args.path}: addresses are not supported: give a directory")
    if not os.path.isdir(args.path):
        raise UsageError(f"build {args.path}: no such directory")
    name, content = "Dockerfile", b""
    if args.file == "-":
        name, content = _OUTSIDE, sys.stdin.buffer.read(_DOCKERFILE_LIMIT + 1)
    else:
        path = args.file or os.path.join(args.path, "Dockerfile")
        try:
            with open(path, "rb") as opened:
                content = opened.read(_DOCKERFILE_LIMIT + 1)
        except OSError as error:
            why = (error.strerror or "").lower()
            raise HyperError(f"cannot read the Dockerfile {path}: {why}") from error
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(args.path))
        name = _OUTSIDE if inside.startswith("../") else inside
    _pack(args.path, file, name, content)
    return name, content


def _from_stdin(args: argparse.Namespace, file: IO[bytes]) -> tuple[str, bytes]:
    """Standard input is a context's archive, or a Dockerfile without a context."""
    import tarfile

    if sys.stdin.isatty():
        raise UsageError("give a Dockerfile or an archive on standard input")
    start = sys.stdin.buffer.read(512)
    packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    if packed or start[257:262] == b"ustar":
        file.write(start)
        while data := sys.stdin.buffer.read(_BLOCK):
            file.write(data)
        return args.file or "Dockerfile", b""
    if args.file:
        raise UsageError("--file is of no use with a Dockerfile on standard input")
    content = start + sys.stdin.buffer.read(_DOCKERFILE_LIMIT)
    with tarfile.open(fileobj=file, mode="w") as archive:
        _add_text(archive, _OUTSIDE, content)
    return _OUTSIDE, content


def _pack(root: str, file: IO[bytes], dockerfile: str, content: bytes) -> None:
    """Pack a directory, without what .dockerignore says (but with it, and the Dockerfile)."""
    import tarfile

    from ..build.ignore import Ignore

    ignore = Ignore(_ignore_text(root, dockerfile))
    needed = {dockerfile, ".dockerignore", f"{dockerfile}.dockerignore"}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder, folders, names in os.walk(root):
            where = os.path.relpath(folder, root)
            where = "" if where == "." else f"{where}/"
            kept = []
            for name in sorted(folders):
                path = where + name
                ignored = ignore.ignores(path)
                is_link = os.path.islink(os.path.join(folder, name))
                holds = any(one.startswith(f"{path}/") for one in needed)
                if not ignored:
                    archive.add(os.path.join(folder, name), path, recursive=False)
                if not is_link and (not ignored or ignore.has_exceptions or holds):
                    kept.append(name)
            folders[:] = kept
            for name in sorted(names):
                if where + name in needed or not ignore.ignores(where + name):
                    _add_file(archive, os.path.join(folder, name), where + name)
        if dockerfile == _OUTSIDE:
            _add_text(archive, dockerfile, content)


def _ignore_text(root: str, dockerfile: str) -> str:
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as opened:
                return opened.read(_DOCKERFILE_LIMIT)
        except FileNotFoundError:
            continue
    return ""


def _add_file(archive: tarfile.TarFile, path: str, name: str) -> None:
    import stat

    mode = os.lstat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        tell(f"hyper: {name}: left out: neither a file nor a link")
        return
    try:
        archive.add(path, name, recursive=False)
    except PermissionError:
        raise HyperError(f"cannot read {path}: permission denied: see .dockerignore") from None


def _add_text(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    import io
    import tarfile

    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _registry_config(dockerfile: bytes) -> str | None:
    """The X-Registry-Config header: credentials for the registries that a Dockerfile names."""
    import asyncio
    import base64
    import json

    from ..build.dockerfile import parse
    from ..build.instructions import Copy, From
    from ..images.auth import from_config
    from ..images.reference import parse as parse_name

    try:
        instructions = parse(dockerfile).instructions if dockerfile else ()
    except HyperError:
        return None  # hyperd says what is wrong
    names = [one.image for one in instructions if isinstance(one, From)]
    names += [one.stage for one in instructions if isinstance(one, Copy) and one.stage]
    hosts = set()
    for name in names:
        try:
            hosts.add(parse_name(name).host)
        except BadRequest:
            continue
    found = {}
    for host in sorted(hosts):
        if (auth := asyncio.run(from_config(host))) is not None:
            found[host] = {
                "username": auth.username,
                "password": auth.password,
                "identitytoken": auth.identity_token,
                "registrytoken": auth.registry_token,
            }
    if not found:
        return None
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()
