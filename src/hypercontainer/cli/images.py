"""Commands on images: images, pull, load, rmi."""

from __future__ import annotations

import sys

from ..errors import HyperError, NotFound
from .arguments import UsageError, add_platform
from .containers import for_each
from .formats import add_template, print_by_template
from .output import age, human_size, local_time, print_json, print_table, short_id, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ..client import Client
    from ..client.types import ImageSummary
    from .arguments import Parser
    from .session import Session

_NONE = "<none>"
_TITLES = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")


def configure_images(parser: Parser) -> None:
    """Options of `images`."""
    parser.add_argument(
        "-a", "--all", action="store_true", help="also those that are only steps of builds"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids")
    add_template(parser, _TITLES)
    parser.add_argument(
        "repository", nargs="?", metavar="REPOSITORY[:TAG]", help="only images of that name"
    )


def command_images(session: Session, args: argparse.Namespace) -> int:
    """`hyper images`."""

    def named() -> list[tuple[ImageSummary, str, str]]:
        return [
            (image, repository, tag)
            for image in session.client().list_images(all=args.all)
            for repository, tag in _names(image)
            if args.repository is None or _matches(args.repository, repository, tag)
        ]

    def rows() -> list[dict[str, str]]:
        return [_row(*item, whole=args.no_trunc) for item in named()]

    def images() -> list[ImageSummary]:
        return list({image["Id"]: image for image, _, _ in named()}.values())

    if args.format == "json":
        print_json(images())
    elif args.format != "table":
        print_by_template(args.format, _TITLES, rows)
    elif args.quiet:
        for image in images():
            show(short_id(image["Id"], whole=args.no_trunc))
    else:
        cells = [[row[column] for column in _COLUMNS] for row in rows()]
        print_table([_TITLES[column] for column in _COLUMNS], cells)
    return 0


def _row(image: ImageSummary, repository: str, tag: str, *, whole: bool) -> dict[str, str]:
    """The fields of an image under one of its names, as they are shown."""
    digests = image.get("RepoDigests") or []
    own = (d.partition("@") for d in digests)
    digest = next((d for name, _, d in own if familiar(name) == repository), _NONE)
    return {
        "ID": short_id(image["Id"], whole=whole),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedAt": local_time(image["Created"]),
        "CreatedSince": age(image["Created"]),
        "Size": human_size(image["Size"]),
    }


def _names(image: ImageSummary) -> list[tuple[str, str]]:
    tags = image.get("RepoTags") or []
    if not tags:
        digests = image.get("RepoDigests") or []
        return [(digest.partition("@")[0], _NONE) for digest in digests[:1]] or [(_NONE, _NONE)]
    return [(familiar(name.rpartition(":")[0]), name.rpartition(":")[2]) for name in tags]


def familiar(repository: str) -> str:
    """A repository without the parts that are understood: docker.io/library/x is x."""
    return repository.removeprefix("docker.io/").removeprefix("library/")


def _matches(wanted: str, repository: str, tag: str) -> bool:
    from fnmatch import fnmatchcase

    name, colon, wanted_tag = wanted.rpartition(":")
    if not colon or "/" in wanted_tag:
        name, wanted_tag = wanted, "*"
    return fnmatchcase(repository, familiar(name)) and fnmatchcase(tag, wanted_tag)


def configure_pull(parser: Parser) -> None:
    """Options of `pull`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_platform(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE[:TAG|@DIGEST]")


def command_pull(session: Session, args: argparse.Namespace) -> int:
    """`hyper pull`."""
    client = session.client()

    def pull(image: str) -> None:
        pull_image(client, image, platform=args.platform, quiet=args.quiet)

    return for_each(session, args.images, pull)


def pull_image(client: Client, image: str, *, platform: str = "", quiet: bool = False) -> None:
    """Pull with progress on stderr, and with the credentials of ~/.docker/config.json."""
    from .progress import show_progress
    from .registry_auth import header_for

    try:
        lines = client.pull(image, registry_auth=header_for(image), platform=platform)
        show_progress(lines, quiet=quiet)
    except NotFound as error:
        if image in error.message:
            raise
        raise NotFound(f"pull {image}: {error.message}", detail=error.detail) from error


def configure_load(parser: Parser) -> None:
    """Options of `load`."""
    parser.add_argument(
        "-i", "--input", metavar="FILE", help="archive to read (default: standard input)"
    )
    parser.add_argument(
        "-n",
        "--name",
        default="",
        metavar="NAME",
        help="OCI layouts: call images NAME:REF, for their reference names",
    )
    parser.add_argument(
        "-r",
        "--references",
        action="append",
        default=[],
        metavar="REF=IMAGE",
        help="OCI layouts: what to call the image with a reference name",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def command_load(session: Session, args: argparse.Namespace) -> int:
    """`hyper load`."""
    from .imagefiles import pairs
    from .progress import show_progress

    refs = pairs(args.references, "REF=IMAGE")
    client = session.client()
    if args.input is None:
        if sys.stdin.isatty():
            raise UsageError("give an archive by --input FILE or on standard input")
        loaded = show_progress(client.load(sys.stdin.buffer, args.name, refs), quiet=args.quiet)
    else:
        try:
            with open(args.input, "rb") as archive:
                loaded = show_progress(client.load(archive, args.name, refs), quiet=args.quiet)
        except OSError as error:
            why = (error.strerror or "").lower()
            raise HyperError(f"cannot read the archive {args.input}: {why}") from error
    for line in loaded:
        show(line)
    return 0


def configure_rmi(parser: Parser) -> None:
    """Options of `rmi`."""
    parser.add_argument(
        "-f", "--force", action="store_true", help="also one that stopped containers use"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")


def command_rmi(session: Session, args: argparse.Namespace) -> int:
    """`hyper rmi`."""
    client = session.client()

    def remove(image: str) -> str:
        removed = client.remove_image(image, force=args.force)
        return "\n".join(_removal_lines(removed)) or image

    return for_each(session, args.images, remove, text=str)


def _removal_lines(removed: list[dict[str, str]]) -> Iterator[str]:
    for item in removed:
        for key, value in item.items():
            verb = "Deleted" if key.lower() == "deleted" else "Untagged"
            yield f"{verb}: {value}"
