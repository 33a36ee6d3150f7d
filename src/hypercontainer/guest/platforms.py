"""The platforms that virtual machines can be of, in the words of Docker and OCI (`linux/arm64`)."""

from ..errors import NotSupported
from ..quick.types import Any, NamedTuple

NATIVE = "amd64"


class Architecture(NamedTuple):
    """An architecture of guests.

    `name` is Docker's word, `variant` the one that images may add to it, `machine` the word of
    `uname -m`; `emulator` runs its VMs, `package` is the Debian package that has it,
    `kernel_target` the target of make that builds its kernel.
    """

    name: str
    variant: str
    machine: str
    emulator: str
    package: str
    kernel_target: str

    @property
    def platform(self) -> str:
        """`linux/NAME`."""
        return f"linux/{self.name}"


ARCHITECTURES = {
    "amd64": Architecture(
        "amd64", "v1", "x86_64", "qemu-system-x86_64", "qemu-system-x86", "hyperkernel"
    ),
    "arm64": Architecture(
        "arm64", "v8", "aarch64", "qemu-system-aarch64", "qemu-system-arm", "hyperkernel-arm64"
    ),
}


def architecture(name: str, what: str = "architecture") -> Architecture:
    """An architecture by its name, Docker's or the kernel's, in the case of "" the host's.

    Raises NotSupported, which begins with `what`.
    """
    for found in ARCHITECTURES.values():
        if (name or NATIVE) in (found.name, found.machine):
            return found
    known = " and ".join(found.platform for found in ARCHITECTURES.values())
    raise NotSupported(
        f"{what} {name}: hyper has neither an emulator nor a guest kernel for it:"
        f" use an image for one of {known}"
    )


def normal(platform: str) -> str:
    """`OS/ARCHITECTURE[/VARIANT]`, or a part of it, as `linux/ARCHITECTURE`; "" stays so.

    Raises NotSupported for a platform that no virtual machine is of.
    """
    text = platform.lower().removeprefix("linux/")
    if not text:
        return ""
    if text == "linux":
        return ARCHITECTURES[NATIVE].platform
    for found in ARCHITECTURES.values():
        name, _, variant = text.partition("/")
        if name in (found.name, found.machine) and variant in ("", found.variant):
            return found.platform
    return architecture(platform, "platform").platform


def of_image(config: dict[str, Any]) -> str:
    """The name of the architecture of an image's configuration; the host's if it does not say.

    Raises NotSupported.
    """
    return architecture(str(config.get("architecture") or ""), "an image for").name
