"""Devices of Xen's guests, plugged by xenstore: disks (vbd), cards (vif), more consoles.

Host and guest each have a directory there for a device, with the other's path and the state that
their side is in: see xen/include/public/io/xenbus.h, blkif.h, netif.h and console.h.
"""

import time
from typing import NamedTuple

from ..errors import VMError
from .xenstore import XenStore

INITIALISING, INITIALISED, CONNECTED, CLOSING, CLOSED = 1, 3, 4, 5, 6
_POLL = 0.01
# Numbers of disks as the guest gets them: extended ones, of up to 256 partitions each.
_EXTENDED = 1 << 28
MAX_DISKS = 4096


class Device(NamedTuple):
    """A device of a domain: `kind` is vbd, vif or console, `number` its name below that."""

    domain: int
    kind: str
    number: int

    @property
    def guests(self) -> str:
        """The guest's directory."""
        return f"/local/domain/{self.domain}/device/{self.kind}/{self.number}"

    @property
    def hosts(self) -> str:
        """The host's directory."""
        return f"/local/domain/0/backend/{self.kind}/{self.domain}/{self.number}"


def disk_number(lun: int) -> int:
    """The number of disk `lun`, by which the guest finds it (hyperstart's disk.c has the same)."""
    return _EXTENDED | lun << 8


def plug(store: XenStore, device: Device, host: dict[str, str], guest: dict[str, str]) -> None:
    """Make a device; both sides begin at once. Raises VMError."""
    state = str(INITIALISING)
    host = {"frontend": device.guests, "frontend-id": str(device.domain), "online": "1", **host}
    guest = {"backend": device.hosts, "backend-id": "0", **guest}
    with store.transaction():
        store.make(device.hosts, 0, device.domain)
        store.make(device.guests, device.domain, 0)
        for directory, values in ((device.hosts, host), (device.guests, guest)):
            for name, value in (*values.items(), ("state", state)):
                store.write(f"{directory}/{name}", value)


def state(store: XenStore, directory: str) -> int:
    """The state of one side, 0 when it is gone."""
    found = store.read(f"{directory}/state")
    return int(found) if found.isdigit() else 0


def wait_connected(store: XenStore, device: Device, bound: float) -> None:
    """Wait until both sides work. Raises VMError, with what a side says of its trouble."""
    deadline = time.monotonic() + bound
    while state(store, device.hosts) != CONNECTED or state(store, device.guests) != CONNECTED:
        trouble = _trouble(store, device)
        if trouble or time.monotonic() > deadline:
            why = trouble or f"not connected in {bound:.0f} s"
            raise VMError(f"Xen's {device.kind} {device.number}: {why}")
        time.sleep(_POLL)


def _trouble(store: XenStore, device: Device) -> str:
    return store.read(f"{device.hosts}/error") or store.read(
        f"/local/domain/{device.domain}/error/device/{device.kind}/{device.number}/error"
    )


def unplug(store: XenStore, device: Device, bound: float) -> None:
    """Take a device away that the guest has let go, in `bound` seconds, else by force."""
    with store.transaction():
        store.write(f"{device.hosts}/online", "0")
        store.write(f"{device.hosts}/state", str(CLOSING))
    deadline = time.monotonic() + bound
    while state(store, device.hosts) not in (0, CLOSED) and time.monotonic() < deadline:
        time.sleep(_POLL)
    remove(store, device)


def remove(store: XenStore, device: Device) -> None:
    """Forget a device; what serves it in the host's kernel ends."""
    store.remove(device.guests)
    store.remove(device.hosts)


def forget_domain(store: XenStore, domain: int) -> None:
    """Remove what the devices of a domain that is gone have left."""
    for kind in ("vbd", "vif", "console", "9pfs"):
        store.remove(f"/local/domain/0/backend/{kind}/{domain}")
