"""Commands that show containers: list and inspect."""

from __future__ import annotations

from ..errors import HyperError, NotFound
from .arguments import positive
from .output import add_format, age, human_size, print_json, print_table, short_id, shorten, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..client import Client
    from ..client.types import ContainerSummary
    from .arguments import Parser
    from .session import Session

_COMMAND_WIDTH = 20


def configure_list(parser: Parser) -> None:
    """Options of `list`."""
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument(
        "-n", "--last", type=positive, metavar="N", help="the last N, running or not"
    )
    parser.add_argument("-l", "--latest", action="store_true", help="the last, running or not")
    parser.add_argument("-s", "--size", action="store_true", help="show what they take on disk")
    parser.add_argument("--no-trunc", action="store_true", help="print everything in full")
    add_format(parser)


def command_list(session: Session, args: argparse.Namespace) -> int:
    """`hyper list`."""
    limit = 1 if args.latest else args.last
    found = session.client().list_containers(all=args.all, limit=limit, size=args.size)
    if args.format == "json":
        print_json(found)
    elif args.quiet:
        for container in found:
            show(short_id(container["Id"], whole=args.no_trunc))
    else:
        header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "POD", "NAMES"]
        if args.size:
            header.append("SIZE")
        print_table(header, [_row(container, whole=args.no_trunc) for container in found])
    return 0


def _row(container: ContainerSummary, *, whole: bool) -> tuple[str, ...]:
    command = container["Command"]
    return (
        short_id(container["Id"], whole=whole),
        container["Image"],
        f'"{command if whole else shorten(command, _COMMAND_WIDTH)}"',
        age(container["Created"]),
        container["Status"],
        ports_text(container["Ports"]),
        container["Pod"],
        ",".join(name.removeprefix("/") for name in container["Names"]),
        *_size(container),
    )


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Published ports as Docker shows them, ports in a row as a range."""
    runs: list[list[Any]] = []
    for port in sorted(ports, key=_place):
        key, inner, outer = (port["IP"], port["Type"]), port["PrivatePort"], port["PublicPort"]
        last = runs[-1] if runs else None
        if last and last[0] == key and (last[2] + 1, last[4] + 1) == (inner, outer):
            last[2], last[4] = inner, outer
        else:
            runs.append([key, inner, inner, outer, outer])
    return ", ".join(
        f"{ip}:{_span(outer, outer_end)}->{_span(inner, inner_end)}/{kind}"
        for (ip, kind), inner, inner_end, outer, outer_end in runs
    )


def _place(port: dict[str, Any]) -> tuple[Any, ...]:
    distance = port["PublicPort"] - port["PrivatePort"]
    return port["IP"], port["Type"], distance, port["PrivatePort"]


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _size(container: ContainerSummary) -> tuple[str, ...]:
    if "SizeRw" not in container or "SizeRootFs" not in container:
        return ()
    written, whole = human_size(container["SizeRw"]), human_size(container["SizeRootFs"])
    return (f"{written} (virtual {whole})",)


def configure_inspect(parser: Parser) -> None:
    """Options of `inspect`."""
    parser.add_argument("--type", choices=("container", "image"), help="look only for one of these")
    parser.add_argument(
        "-f", "--format", choices=("json",), default="json", help="json is the only one"
    )
    parser.add_argument("names", nargs="+", metavar="NAME")


def command_inspect(session: Session, args: argparse.Namespace) -> int:
    """`hyper inspect`: an array of what was found, as Docker's."""
    from .main import report

    client = session.client()
    found: list[dict[str, Any]] = []
    failed = False
    for name in args.names:
        try:
            found.append(_inspect(client, name, args.type))
        except HyperError as error:
            failed = True
            report(session.program, error, session.debug)
    print_json(found)
    return int(failed)


def _inspect(client: Client, name: str, kind: str | None) -> dict[str, Any]:
    if kind == "image":
        return client.inspect_image(name)
    try:
        return client.inspect_container(name)
    except NotFound:
        if kind == "container":
            raise
    try:
        return client.inspect_image(name)
    except NotFound:
        raise NotFound(f"no such container or image: {name}") from None
