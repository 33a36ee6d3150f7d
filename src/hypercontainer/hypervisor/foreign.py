"""Which platforms' guests can run on this machine."""

from ..errors import HyperError
from ..guest import kernel
from ..guest.platforms import ARCHITECTURES, NATIVE
from .qemu_start import binary


def check_runnable(architecture: str) -> None:
    """Raises an error with the remedy when guests of a foreign architecture can't run here."""
    if architecture != NATIVE:
        binary(architecture)
        kernel.find(flavour=architecture)


def platforms() -> dict[str, str]:
    """All platforms, each with what is missing here and the remedy: "" when guests of it run."""
    found = {}
    for about in ARCHITECTURES.values():
        try:
            check_runnable(about.name)
            found[about.platform] = ""
        except HyperError as error:
            found[about.platform] = error.message
    return found
