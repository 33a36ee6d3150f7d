"""`hyper image`: Docker's words for the commands on images, and `image prune`."""

from __future__ import annotations

from . import build, imagefiles, images, making, registries
from .arguments import filters, subcommands
from .output import human_size, print_json, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session


def configure_image(parser: Parser) -> None:
    """The commands below `image`."""
    subcommands(
        parser,
        {
            "ls": (images.configure_images, images.command_images, "list images"),
            "inspect": (_configure_inspect, _inspect, "show everything about images, as JSON"),
            "history": (
                making.configure_history,
                making.command_history,
                "show how an image came about",
            ),
            "rm": (images.configure_rmi, images.command_rmi, "remove images"),
            "prune": (_configure_prune, _prune, "remove images that nobody needs"),
            "build": (build.configure_build, build.command_build, "build an image of a Dockerfile"),
            "pull": (images.configure_pull, images.command_pull, "pull images from a registry"),
            "push": (
                registries.configure_push,
                registries.command_push,
                "push images to their registries",
            ),
            "tag": (
                imagefiles.configure_tag,
                imagefiles.command_tag,
                "give an image one more name",
            ),
            "save": (
                imagefiles.configure_save,
                imagefiles.command_save,
                "write images as an archive",
            ),
            "load": (images.configure_load, images.command_load, "load images from an archive"),
            "import": (
                making.configure_import,
                making.command_import,
                "make an image of a root file system's archive",
            ),
        },
    )


def _configure_inspect(parser: Parser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE")


def _inspect(session: Session, args: argparse.Namespace) -> int:
    client = session.client()
    print_json([client.inspect_image(image) for image in args.images])
    return 0


def _configure_prune(parser: Parser) -> None:
    from .prune import add_prune_options

    parser.add_argument(
        "-a", "--all", action="store_true", help="all that no container uses, not only nameless"
    )
    add_prune_options(parser)


def _prune(session: Session, args: argparse.Namespace) -> int:
    from .prune import confirmed, report

    wanted = filters(args.filter)
    if args.all:
        wanted["dangling"] = ["false"]
    what = "all images without a container" if args.all else "all images without a name"
    if not confirmed(args, what):
        return 0
    done = session.client().prune_images(wanted)
    gone = done["ImagesDeleted"] or []
    report("Images", [f"{verb.lower()}: {name}" for item in gone for verb, name in item.items()])
    show(f"Total reclaimed space: {human_size(done['SpaceReclaimed'])}")
    return 0
