"""`run` and `create` with a pod file instead of an image and options."""

from __future__ import annotations

import argparse
import time

from ..errors import NotFound
from . import network_options
from .arguments import UsageError
from .output import show, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..client.types import CreatedPod
    from .arguments import Parser

# What may stand beside a pod file; everything else is in the file.
_BESIDE = ("podfile", "yaml", "kubernetes", "detach", "attach", "rm", "pull", "pod", "operands")


def add_options(parser: Parser, operands: argparse.Action) -> None:
    """The options `--podfile`, `--yaml` and `--kubernetes`; with them no image is needed."""

    class File(argparse.Action):
        def __call__(self, *args: Any) -> None:
            _, namespace, value, option = args
            if option == "-p" and network_options.is_mapping(value):
                namespace.publish = [*namespace.publish, value]
                return
            setattr(namespace, self.dest, value)
            operands.required = False

    parser.add_argument(
        "-p",
        "--podfile",
        action=File,
        metavar="FILE",
        help="take the pod from FILE, JSON or YAML; -p with ports is --publish",
    )
    parser.add_argument(
        "-y", "--yaml", action="store_true", help="FILE is YAML, whatever its name says"
    )
    parser.add_argument(
        "-k",
        "--kubernetes",
        action=File,
        metavar="FILE",
        help="take the pod from FILE, a Pod of Kubernetes v1 in YAML or JSON",
    )


def given(args: argparse.Namespace) -> bool:
    """Whether there is a pod file."""
    return bool(args.podfile or args.kubernetes)


def described(args: argparse.Namespace) -> dict[str, Any]:
    """The pod of the file. Raises UsageError when options or operands contradict it."""
    if args.podfile and args.kubernetes:
        raise UsageError("--podfile and --kubernetes exclude each other")
    if args.operands:
        raise UsageError(f"{args.operands[0]!r}: the pod file names the images and commands")
    for name, value in vars(args).items():
        if name not in (*_BESIDE, "default_of") and value != args.default_of(name):
            raise UsageError(f"--{name.replace('_', '-')}: not with a pod file: write it there")
    from ..client import podfile

    spec = podfile.read(args.podfile or args.kubernetes, yaml=args.yaml or None)
    if args.kubernetes:
        from ..client.kubernetes import pod_of

        spec = pod_of(spec)
    if getattr(args, "rm", False):
        spec["autoRemove"] = True
    return spec


def create(client: Client, spec: dict[str, Any], pull: str) -> CreatedPod:
    """Create the pod, after pulling its images where that is wanted."""
    from .images import pull_image

    if pull == "always":
        for image, platform in _images(spec):
            pull_image(client, image, platform=platform)
    try:
        return client.create_pod(spec)
    except NotFound as error:
        if pull != "missing" or "image" not in error.message:
            raise
    for image, platform in _images(spec):
        try:
            client.inspect_image(image, platform=platform)
        except NotFound:
            tell(f"Unable to find image '{image}' locally")
            pull_image(client, image, platform=platform)
    return client.create_pod(spec)


def _images(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """The images that a specification names, and for which platforms.

    hyperd says what is wrong with it.
    """
    containers = next((v for k, v in spec.items() if k.lower() == "containers"), None)
    given = [
        {key.lower(): value for key, value in container.items()}
        for container in (containers if isinstance(containers, list) else [])
        if isinstance(container, dict)
    ]
    found = [(keys["image"], str(keys.get("platform") or "")) for keys in given if "image" in keys]
    return list(dict.fromkeys(pair for pair in found if isinstance(pair[0], str)))


def report(created: CreatedPod, begun: float) -> None:
    """Say the id of a started pod, and how long it took since `begun`, as the original did."""
    show(f"POD id is {created['ID']}")
    show(f"Time to run a POD is {1000 * (time.monotonic() - begun):.0f} ms")
