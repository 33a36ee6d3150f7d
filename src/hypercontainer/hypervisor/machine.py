"""What a virtual machine is made of, and the VMM process that runs it."""

import os
import signal
import socket
from typing import NamedTuple

from ..system import processes

TEMPLATES = os.environ.get("HYPER_TEMPLATES", "/run/hyper/templates")


class Machine(NamedTuple):
    """A VM to be started.

    `memory_mib` is in MiB, `accel` is `kvm` or `tcg`, `share` the directory
    exported over 9p ("" for none), `network` is `none` or `user`, `user_id`
    the uid and gid that the VMM runs as (ignored with a share, whose server
    needs to own files as the guest says), `jail` an empty directory for the
    VMM's root file system ("" for none), `memory_fd` a memfd for its RAM (-1
    for memory of its own), shared with it unless it starts as a clone:
    `incoming` means that its state comes later, from a template.
    """

    name: str
    accel: str
    cpus: int
    memory_mib: int
    kernel: str
    initrd: str
    append: str
    share: str
    network: str
    user_id: int
    jail: str
    memory_fd: int = -1
    incoming: bool = False


class Vmm(NamedTuple):
    """A running VMM: its process, and our ends of its channels."""

    pid: int
    started: int
    control: socket.socket
    streams: socket.socket
    monitor: socket.socket
    console: socket.socket
    errors: int

    def kill(self) -> None:
        """SIGKILL, for a child of this process; the caller reaps it."""
        if processes.alive(self.pid, self.started):
            os.kill(self.pid, signal.SIGKILL)
