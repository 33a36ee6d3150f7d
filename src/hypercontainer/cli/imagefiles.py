"""Commands that name images and write them to files: tag, save."""

from __future__ import annotations

import sys

from .arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def configure_tag(parser: Parser) -> None:
    """Options of `tag`."""
    parser.add_argument("image", metavar="IMAGE[:TAG]")
    parser.add_argument("name", metavar="NAME[:TAG]")


def command_tag(session: Session, args: argparse.Namespace) -> int:
    """`hyper tag`."""
    session.client().tag(args.image, args.name)
    return 0


def configure_save(parser: Parser) -> None:
    """Options of `save`."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")
    parser.add_argument(
        "-f",
        "--format",
        choices=("docker", "oci"),
        default="docker",
        help="docker: as docker save; oci: an OCI image layout (default: docker)",
    )
    parser.add_argument(
        "-r",
        "--references",
        action="append",
        default=[],
        metavar="IMAGE=REF",
        help="the reference name of an image in an OCI layout (default: its tag)",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")


def command_save(session: Session, args: argparse.Namespace) -> int:
    """`hyper save`."""
    from .copying import write_body

    refs = pairs(args.references, "IMAGE=REF")
    if refs and args.format != "oci":
        raise UsageError("--references: only an OCI layout (--format oci) has reference names")
    if not args.output and sys.stdout.isatty():
        raise UsageError("an archive is not for a terminal: use --output or redirect")
    body = session.client().save(args.images, oci=args.format == "oci", refs=refs)
    write_body(body, args.output)
    return 0


def pairs(items: list[str], form: str) -> dict[str, str]:
    """The values of an option that is given as KEY=VALUE. Raises UsageError."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals or not value:
            raise UsageError(f"--references: {item!r} is not {form}")
        found[key] = value
    return found
