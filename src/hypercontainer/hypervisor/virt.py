"""QEMU's machine `virt` (its docs/system/arm/virt), of which VMs for arm64 are, always emulated.

It has a PCI Express bus, to which cards can be plugged only behind ports that are there from the
start. hyperstart switches a port's slot on and off by its registers (`hyperstart/src/pci.c`).
"""

from typing import Any

from ..errors import VMError
from ..guest.platforms import NATIVE

RAM_BASE = 0x40000000
"""The guest's address of its RAM."""

PORTS = tuple(f"port{number}" for number in range(9))
"""As many as a VM may have network cards, and one for a share."""

# GICv2 has 8 CPUs. GICv3 has more, but tables for interrupts of PCI in the guest's RAM.
_GIC_V2_CPUS = 8
# All on one device of the root bus.
_PORT_SLOT = 0x1E

KERNEL_ARGUMENTS = "console=ttyAMA0"


def arguments(cpus: int) -> list[str]:
    """QEMU's arguments for the machine, its processor and its ports."""
    gic = 2 if cpus <= _GIC_V2_CPUS else 3
    argv = [
        *("-M", f"virt,gic-version={gic},acpi=off,usb=off,mem-merge=off"),
        # Programs do without: signing pointers is computing a cipher at each call and return, and
        # vectors of 256 bytes would be in each template's state.
        *("-cpu", "max,pauth=off,sve=off,sme=off"),
    ]
    for number, port in enumerate(PORTS):
        slot, function = _PORT_SLOT + number // 8, number % 8
        place = f"addr={slot:x}.{function:x},multifunction=on"
        argv += ["-device", f"pcie-root-port,id={port},chassis={number + 1},{place}"]
    return argv


class Places:
    """Where cards can be plugged: to the machine `pc` anywhere, to others at free ports."""

    def __init__(self, architecture: str) -> None:
        self._users: dict[str, str | None] = {}
        if architecture != NATIVE:
            self._users = dict.fromkeys(PORTS)

    def take(self, device: str, slot: str = "") -> dict[str, str]:
        """A place for a card, as arguments of device_add; `slot` is one that `places` gave.

        Raises VMError when all are taken.
        """
        if not self._users:
            return {"addr": slot} if slot else {}
        port = next((p for p, user in self._users.items() if user is None and slot in ("", p)), "")
        if not port:
            raise VMError(f"the virtual machine has no free port for {device}")
        self._users[port] = device
        return {"bus": port}

    def free(self, device: str) -> None:
        """Let a card's place be another's."""
        self._users = {p: None if user == device else user for p, user in self._users.items()}


def places(buses: list[dict[str, Any]]) -> dict[str, str]:
    """The places of all devices by their names, of what `query-pci` answers."""
    found = {}
    for bus in buses:
        for device in bus["devices"]:
            behind = (device.get("pci_bridge") or {}).get("devices", [])
            found[device["qdev_id"]] = f"{device['slot']:x}"
            found |= {card["qdev_id"]: device["qdev_id"] for card in behind}
    return found
