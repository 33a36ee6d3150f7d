"""The architecture of a pod's VM: that of its containers' images."""

from collections.abc import Iterable

from ..errors import BadRequest, NotFound
from ..guest.platforms import ARCHITECTURES, NATIVE, of_image
from ..images import Image, ImageStore
from .model import Container


def check_platform(image: Image, platform: str, name: str) -> None:
    """Raises NotFound for an image that is for another platform than the one asked for, if any."""
    here = ARCHITECTURES[of_image(image.config)].platform
    if platform not in ("", here):
        raise NotFound(
            f"no such image for {platform}: {name} is here for {here}:"
            f" `hyper pull --platform {platform} {name}` brings the other"
        )


def architecture_of(images: ImageStore, containers: Iterable[Container]) -> str:
    """The architecture of a VM for these containers, by Docker's name.

    Raises BadRequest when they have several, NotSupported for one that no VM is of.
    """
    found = {
        of_image(images.get(container.image_id).config): container.image for container in containers
    }
    if len(found) > 1:
        each = " and ".join(f"{name} for {found[name]}" for name in sorted(found))
        raise BadRequest(f"containers: images for several architectures in one pod: {each}")
    return next(iter(found), NATIVE)
