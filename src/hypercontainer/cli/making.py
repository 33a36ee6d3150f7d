"""Commands that make images of containers and archives, and say how images came about."""

from __future__ import annotations

import sys

from ..errors import HyperError, NotSupported
from .arguments import UsageError
from .output import add_format, age, human_size, print_json, print_table, short_id, shorten, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session

_WIDTH = 45


def _change(parser: Parser) -> None:
    parser.add_argument(
        "-c",
        "--change",
        action="append",
        default=[],
        metavar="INSTRUCTION",
        help="an instruction of a Dockerfile for the image, such as 'CMD [\"x\"]'",
    )


def configure_commit(parser: Parser) -> None:
    """Options of `commit`."""
    parser.add_argument("-a", "--author", default="", metavar="AUTHOR")
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="for its history")
    _change(parser)
    parser.add_argument(
        "-p", "--pause", action="store_true", default=True, help="freeze it meanwhile (default)"
    )
    parser.add_argument(
        "--no-pause", dest="pause", action="store_false", help="do not freeze it meanwhile"
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("name", nargs="?", default="", metavar="NAME[:TAG]")


def command_commit(session: Session, args: argparse.Namespace) -> int:
    """`hyper commit`."""
    image_id = session.client().commit(
        args.container,
        args.name,
        author=args.author,
        message=args.message,
        changes=args.change,
        pause=args.pause,
    )
    show(image_id)
    return 0


def configure_import(parser: Parser) -> None:
    """Options of `import`."""
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="for its history")
    _change(parser)
    parser.add_argument("file", metavar="FILE|-")
    parser.add_argument("name", nargs="?", default="", metavar="NAME[:TAG]")


def command_import(session: Session, args: argparse.Namespace) -> int:
    """`hyper import`."""
    if "://" in args.file:
        raise NotSupported(f"import {args.file}: addresses are not supported: download it first")
    options = {"message": args.message, "changes": args.change}
    if args.file == "-":
        if sys.stdin.isatty():
            raise UsageError("give an archive by FILE or on standard input")
        image_id = session.client().import_image(sys.stdin.buffer, args.name, **options)
    else:
        try:
            file = open(args.file, "rb")  # noqa: SIM115
        except OSError as error:
            why = (error.strerror or "").lower()
            raise HyperError(f"cannot read the archive {args.file}: {why}") from error
        with file:
            image_id = session.client().import_image(file, args.name, **options)
    show(image_id)
    return 0


def configure_history(parser: Parser) -> None:
    """Options of `history`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="only ids")
    parser.add_argument("--no-trunc", action="store_true", help="print whole texts")
    add_format(parser)
    parser.add_argument("image", metavar="IMAGE")


def command_history(session: Session, args: argparse.Namespace) -> int:
    """`hyper history`."""
    entries = session.client().history(args.image)
    if args.format == "json":
        print_json(entries)
        return 0
    if args.quiet:
        for entry in entries:
            show(short_id(entry["Id"], whole=args.no_trunc))
        return 0
    rows = [
        (
            short_id(entry["Id"], whole=args.no_trunc),
            age(entry["Created"]),
            entry["CreatedBy"] if args.no_trunc else shorten(entry["CreatedBy"], _WIDTH),
            human_size(entry["Size"]),
            entry["Comment"],
        )
        for entry in entries
    ]
    print_table(("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"), rows)
    return 0
