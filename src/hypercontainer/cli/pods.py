"""`hyper pod ls`, `start`, `stop`, `rm` and the like: pods as a whole."""

from __future__ import annotations

from . import stats
from .arguments import labels, seconds, subcommands
from .containers import for_each
from .output import add_format, print_json, print_table, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def configure_pod(parser: Parser) -> None:
    """The commands below `pod`."""
    subcommands(
        parser,
        {
            "ls": (_configure_ls, _list, "list pods"),
            "start": (_configure_names, _start, "start pods, with all of their containers"),
            "stop": (_configure_stop, _stop, "stop pods, by force after a grace period"),
            "kill": (_configure_kill, _kill, "send a signal to all containers of pods"),
            "pause": (_configure_names, _pause, "freeze the virtual machines of pods"),
            "unpause": (_configure_names, _unpause, "let paused pods go on"),
            "rm": (_configure_rm, _remove, "remove pods with their containers"),
            "inspect": (_configure_names, _inspect, "show what hyperd knows of pods, as JSON"),
            "label": (_configure_label, _label, "give a pod more labels"),
            "stats": (_configure_stats, _stats, "show what the containers of pods use"),
        },
    )


def _configure_names(parser: Parser) -> None:
    parser.add_argument("pods", nargs="+", metavar="POD")


def _configure_ls(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    add_format(parser)


def _configure_stop(parser: Parser) -> None:
    parser.add_argument(
        "-t",
        "--time",
        type=seconds,
        metavar="SECONDS",
        help="wait so long before SIGKILL (default: the containers' stop timeouts, 10)",
    )
    _configure_names(parser)


def _configure_kill(parser: Parser) -> None:
    parser.add_argument(
        "-s", "--signal", default="KILL", metavar="SIGNAL", help="name or number (default: KILL)"
    )
    _configure_names(parser)


def _configure_rm(parser: Parser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="remove running ones too")
    _configure_names(parser)


def _configure_label(parser: Parser) -> None:
    parser.add_argument(
        "--override", action="store_true", help="also change labels that the pod has"
    )
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("labels", nargs="+", metavar="NAME=VALUE")


def _configure_stats(parser: Parser) -> None:
    stats.add_options(parser)
    _configure_names(parser)


def _list(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    pods = client.list_pods()
    if args.quiet:
        for pod in pods:
            show(pod["ID"])
        return 0
    if args.format == "json":
        print_json(pods)
        return 0
    counts: dict[str, list[bool]] = {}
    for container in client.list_containers(all=True):
        counts.setdefault(container["Pod"], []).append(container["State"] in ("running", "paused"))
    rows = []
    for pod in pods:
        live = counts.get(pod["ID"], [])
        rows.append((pod["ID"], pod["State"].capitalize(), f"{sum(live)}/{len(live)}"))
    print_table(("POD ID", "STATUS", "CONTAINERS"), rows)
    return 0


def _start(session: Session, args: argparse.Namespace) -> int:
    return for_each(session, args.pods, session.client().start_pod)


def _stop(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    return for_each(session, args.pods, lambda pod: client.stop_pod(pod, args.time))


def _kill(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    return for_each(session, args.pods, lambda pod: client.kill_pod(pod, args.signal))


def _pause(session: Session, args: argparse.Namespace) -> int:
    return for_each(session, args.pods, session.client().pause_pod)


def _unpause(session: Session, args: argparse.Namespace) -> int:
    return for_each(session, args.pods, session.client().unpause_pod)


def _remove(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    return for_each(session, args.pods, lambda pod: client.remove_pod(pod, force=args.force))


def _inspect(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    print_json([client.pod_info(pod) for pod in args.pods])
    return 0


def _label(session: Session, args: argparse.Namespace) -> int:
    session.client().label_pod(args.pod, labels(args.labels), override=args.override)
    return 0


def _stats(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    found = client.list_containers(
        filters={"pod": [client.pod_info(p)["podID"] for p in args.pods]}
    )
    args.containers = [container["Id"] for container in found]
    args.all = False
    return stats.command_stats(session, args) if found else 0
