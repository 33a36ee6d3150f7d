"""Commands that show containers: list and inspect."""

from __future__ import annotations

from ..errors import HyperError, NotFound
from .arguments import add_filter, filters, positive
from .formats import Template, add_template, print_by_template
from .output import (
    age,
    human_size,
    local_time,
    print_json,
    print_table,
    short_id,
    shorten,
    show,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..client import Client
    from ..client.types import ContainerSummary
    from .arguments import Parser
    from .session import Session

_COMMAND_WIDTH = 20
_TITLES = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "ImageID": "IMAGE ID",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "State": "STATE",
    "Status": "STATUS",
    "Pod": "POD",
    "Ports": "PORTS",
    "Labels": "LABELS",
    "Size": "SIZE",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Pod", "Names")


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
    add_filter(
        parser,
        "only those that match: ancestor, before, exited, health, id, label, name, network,"
        " pod, since, status, volume",
        "-f",
    )
    add_template(parser, _TITLES)


def command_list(session: Session, args: argparse.Namespace) -> int:
    """`hyper list`."""
    limit = 1 if args.latest else args.last
    wanted = filters(args.filter)
    size = args.size or ".Size" in args.format

    def found() -> list[ContainerSummary]:
        client = session.client()
        return client.list_containers(all=args.all, limit=limit, size=size, filters=wanted)

    def rows() -> list[dict[str, Any]]:
        return [_row(container, whole=args.no_trunc) for container in found()]

    if args.format == "json":
        print_json(found())
    elif args.format != "table":
        print_by_template(args.format, _TITLES, rows)
    elif args.quiet:
        for container in found():
            show(short_id(container["Id"], whole=args.no_trunc))
    else:
        columns = (*_COLUMNS, "Size") if args.size else _COLUMNS
        cells = [[row[column] for column in columns] for row in rows()]
        print_table([_TITLES[column] for column in columns], cells)
    return 0


def _row(container: ContainerSummary, *, whole: bool) -> dict[str, Any]:
    """The fields of a container as they are shown."""
    command = container["Command"]
    have = container["Labels"]
    return {
        "ID": short_id(container["Id"], whole=whole),
        "Names": ",".join(name.removeprefix("/") for name in container["Names"]),
        "Image": container["Image"],
        "ImageID": short_id(container["ImageID"], whole=whole),
        "Command": f'"{command if whole else shorten(command, _COMMAND_WIDTH)}"',
        "CreatedAt": local_time(container["Created"]),
        "RunningFor": age(container["Created"]),
        "State": container["State"],
        "Status": container["Status"],
        "Pod": container["Pod"],
        "Ports": ports_text(container["Ports"]),
        "Labels": ",".join(f"{name}={value}" for name, value in have.items()),
        "_labels": have,
        "Size": _size(container),
    }


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


def _size(container: ContainerSummary) -> str:
    if "SizeRw" not in container or "SizeRootFs" not in container:
        return ""
    written, whole = human_size(container["SizeRw"]), human_size(container["SizeRootFs"])
    return f"{written} (virtual {whole})"


def configure_inspect(parser: Parser) -> None:
    """Options of `inspect`."""
    parser.add_argument("--type", choices=("container", "image"), help="look only for one of these")
    parser.add_argument(
        "-f",
        "--format",
        default="json",
        metavar="FORMAT",
        help="json, or a template such as '{{.State.Status}}' or '{{json .Mounts}}'",
    )
    parser.add_argument("names", nargs="+", metavar="NAME")


def command_inspect(session: Session, args: argparse.Namespace) -> int:
    """`hyper inspect`: an array of what was found, as Docker's."""
    from .main import report

    template = None if args.format == "json" else Template(args.format)
    client = session.client()
    found: list[dict[str, Any]] = []
    failed = False
    for name in args.names:
        try:
            found.append(_inspect(client, name, args.type))
            if template:
                show(template.render(found[-1]))
        except HyperError as error:
            failed = True
            report(session.program, error, session.debug)
    if template is None:
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
