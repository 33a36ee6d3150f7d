"""`hyper template create`, `ls` and `rm`: the booted VMs of this machine that others are clones of.

They are the machine's and its user's, not hyperd's: `hyper` works on them itself.
"""

from __future__ import annotations

from .arguments import UsageError, subcommands
from .containers import for_each
from .output import add_format, print_json, print_table, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser
    from .session import Session


def configure_template(parser: Parser) -> None:
    """The commands below `template`."""
    subcommands(
        parser,
        {
            "create": (_configure_create, _create, "boot a VM and keep it as a template"),
            "ls": (_configure_ls, _list, "list this user's templates on this machine"),
            "rm": (_configure_rm, _remove, "remove templates; their clones go on"),
        },
    )


def _configure_create(parser: Parser) -> None:
    add = parser.add_argument
    add("--cpu", type=int, default=1, metavar="N", help="CPUs of the VM (default: 1)")
    add("--memory", type=int, default=128, metavar="MIB", help="its memory (default: 128)")
    add("--share", action="store_true", help="with a share, for bind mounts and runv")
    add("--driver", choices=("auto", "kvm", "tcg"), default="auto", help="the engine")
    add("--kernel", metavar="FILE", help="the guest's kernel")
    add("--initrd", metavar="FILE", help="the guest's initrd")
    add("--bios", metavar="FILE", help="the VM's firmware")
    add("--cbfs", metavar="FILE", help="a flash to boot from, with kernel and initrd")


def _configure_ls(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="only keys")
    add_format(parser)


def _configure_rm(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="all of them")
    parser.add_argument("names", nargs="*", metavar="KEY")


def _create(session: Session, args: argparse.Namespace) -> int:
    from ..sandbox import VMConfig
    from ..sandbox.template import make

    config = VMConfig(
        cpus=args.cpu,
        memory_mib=args.memory,
        share=args.share,
        accel=args.driver,
        kernel=args.kernel,
        initrd=args.initrd,
        bios=args.bios,
        cbfs=args.cbfs,
    )
    config.validate()
    show(make(config))
    return 0


def _list(session: Session, args: argparse.Namespace) -> int:
    from ..sandbox.template import listing

    found = listing()
    if args.quiet:
        for described in found:
            show(described["key"])
    elif args.format == "json":
        print_json(found)
    else:
        header = ("KEY", "CPUS", "MEMORY", "ENGINE", "SHARE", "NETWORK", "USABLE", "KERNEL")
        print_table(header, [_row(described) for described in found])
    return 0


def _row(described: dict[str, Any]) -> tuple[str, ...]:
    return (
        described["key"],
        str(described["cpus"]),
        f"{described['memory_mib']} MiB",
        described["accel"],
        "yes" if described["share"] else "no",
        described["network"],
        "yes" if described["usable"] else "no",
        described["kernel"],
    )


def _remove(session: Session, args: argparse.Namespace) -> int:
    from ..errors import NotFound
    from ..sandbox.template import listing, remove

    if bool(args.names) == args.all:
        raise UsageError("give keys, or --all")
    keys = [described["key"] for described in listing()]

    def one(name: str) -> str:
        matching = [key for key in keys if name and key.startswith(name)]
        if len(matching) != 1 or not remove(matching[0]):
            raise NotFound(f"no such template: {name}: `hyper template ls` shows those there are")
        return str(matching[0])

    return for_each(session, keys if args.all else args.names, one, str)
