"""Commands that speak with registries: push, login, logout."""

from __future__ import annotations

import sys

from ..errors import HyperError
from .arguments import UsageError
from .output import show, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session

_HUB = "docker.io"
_PASSWORD_LIMIT = 1 << 20


def configure_push(parser: Parser) -> None:
    """Options of `push`."""
    parser.add_argument("-a", "--all-tags", action="store_true", help="all tags of the name")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.add_argument("image", metavar="NAME[:TAG]")


def command_push(session: Session, args: argparse.Namespace) -> int:
    """`hyper push`."""
    from ..images.reference import has_tag, parse
    from .progress import show_progress
    from .registry_auth import header_for

    name = parse(args.image)
    if args.all_tags and has_tag(args.image):
        raise UsageError("--all-tags takes a name without a tag")
    if name.digest:
        raise UsageError(f"push {args.image}: give a tag, not a digest")
    tag = "" if args.all_tags else name.tag or ""
    lines = session.client().push(
        name.familiar_name, tag, registry_auth=header_for(name.familiar_name)
    )
    show_progress(lines, quiet=args.quiet)
    if args.quiet:
        show(name.name if args.all_tags else name.canonical)
    return 0


def configure_login(parser: Parser) -> None:
    """Options of `login`."""
    parser.add_argument("-u", "--username", metavar="USER")
    password = parser.add_mutually_exclusive_group()
    password.add_argument("-p", "--password", metavar="PASSWORD")
    password.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    parser.add_argument("server", nargs="?", default=_HUB, metavar="SERVER")


def command_login(session: Session, args: argparse.Namespace) -> int:
    """`hyper login`."""
    import asyncio

    from ..images.auth import Auth, from_config
    from ..images.authfile import keep
    from ..images.login import host_of

    host = host_of(args.server)
    if args.password_stdin and not args.username:
        raise UsageError("--password-stdin needs --username")
    if args.password is not None:
        tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    username, password = args.username, args.password
    if args.password_stdin:
        password = sys.stdin.read(_PASSWORD_LIMIT).removesuffix("\n").removesuffix("\r")
    if username is None and password is None:
        known = asyncio.run(from_config(host))
        if known is not None and known.username:
            username, password = known.username, known.password
    username = username or _ask("Username: ")
    password = password if password is not None else _ask("Password: ", secret=True)
    if not password:
        raise UsageError("the password is empty")
    text = session.client().login(host, username, password)
    path = asyncio.run(keep(host, Auth(username, password)))
    if path is not None:
        tell(f"WARNING! Your password is stored unencrypted in {path}.")
    show(text)
    return 0


def _ask(prompt: str, *, secret: bool = False) -> str:
    if not sys.stdin.isatty():
        raise UsageError("without a terminal, give --username and --password-stdin")
    if secret:
        from getpass import getpass

        return getpass(prompt)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    answer = sys.stdin.readline().strip()
    if not answer:
        raise HyperError("no username was given")
    return answer


def configure_logout(parser: Parser) -> None:
    """Options of `logout`."""
    parser.add_argument("server", nargs="?", default=_HUB, metavar="SERVER")


def command_logout(session: Session, args: argparse.Namespace) -> int:
    """`hyper logout`."""
    import asyncio

    from ..images.authfile import forget
    from ..images.login import host_of

    host = host_of(args.server)
    if asyncio.run(forget(host)):
        show(f"Removing login credentials for {host}")
    else:
        show(f"Not logged in to {host}")
    return 0
