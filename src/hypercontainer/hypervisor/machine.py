"""What a virtual machine is made of, and the VMM process that runs it."""

import os
import signal
import socket
from typing import NamedTuple

from ..guest.kernel import GuestImage
from ..guest.platforms import NATIVE
from ..system import processes

# Above the ranges that distributions, systemd and container engines hand out; a pid is unique
# among the processes alive, so each VM has a user of its own.
_FIRST_UID = 1879048192


def random_mac() -> str:
    """A locally administered unicast address, in the range that QEMU's cards have."""
    return f"52:54:00:{os.urandom(3).hex(':')}"


def own_user_id() -> int:
    """The user that the VMM of this process is to be."""
    return _FIRST_UID + os.getpid()


class Machine(NamedTuple):
    """A VM to be started.

    `memory_mib` is in MiB, `accel` is the engine (see `driver`), `share` the directory
    that the guest is given ("" for none), `network` is `none` or `user`,
    `user_id` the uid and gid that the VMM runs as (ignored when the VMM itself
    serves the share, as files are owned as the guest says), `jail` an empty
    directory for the VMM's root file system ("" for none), `memory_fd` a memfd
    for its RAM (-1 for memory of its own); `incoming` means that its state
    comes later, from a template, or with `devices_only` from a snapshot, whose
    state has no RAM of any kind; `saved` that it boots to become a template.
    `share_driver` says who serves the share: `9p` is the VMM, `virtiofs` a
    process beside it, which needs the RAM shared. `cbfs` is the flash that
    holds kernel and initrd ("" for none; else both name it too), `bios` the
    firmware ("" for the usual one). `architecture` is the guest's, by Docker's
    name; another than the host's has neither. `most_cpus` is how many CPUs it
    can have while it runs, of which it starts with `cpus`: 0 when no more can
    be plugged. `is_merged` lets the host merge its pages with equal ones of
    others.
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
    devices_only: bool = False
    saved: bool = False
    share_driver: str = "9p"
    bios: str = ""
    cbfs: str = ""
    architecture: str = NATIVE
    most_cpus: int = 0
    is_merged: bool = False

    @property
    def gets_cpus(self) -> bool:
        """Whether it can be given more CPUs than it starts with."""
        return self.most_cpus > self.cpus

    @property
    def served(self) -> str:
        """The directory that the VMM itself serves, "" for none."""
        return self.share if self.share_driver == "9p" else ""

    @property
    def has_virtiofs(self) -> bool:
        """Whether a process beside the VMM serves the share."""
        return bool(self.share) and self.share_driver == "virtiofs"


def bare_machine(
    name: str,
    accel: str,
    image: GuestImage,
    jail: str,
    *,
    memory_mib: int = 128,
    architecture: str = NATIVE,
) -> Machine:
    """A VM of one CPU that boots an image, and has neither a share nor a network."""
    return Machine(
        name=name,
        accel=accel,
        cpus=1,
        memory_mib=memory_mib,
        kernel=image.kernel,
        initrd=image.initrd,
        append="",
        share="",
        network="none",
        user_id=own_user_id(),
        jail=jail,
        bios=image.bios,
        cbfs=image.cbfs,
        architecture=architecture,
    )


class ShareServer(NamedTuple):
    """A process that serves a VM's share, leader of its group; `socket` is for the VMM."""

    pid: int
    started: int
    socket: socket.socket

    def kill(self) -> None:
        """SIGKILL, for a child of this process; the caller reaps it."""
        if processes.alive(self.pid, self.started):
            os.kill(self.pid, signal.SIGKILL)


class Vmm(NamedTuple):
    """A running VMM: its process, our ends of its channels, and what serves its share.

    `end_signal` ends it at once, and all that belongs to the VM.
    """

    pid: int
    started: int
    control: socket.socket
    streams: socket.socket
    monitor: socket.socket
    console: socket.socket
    errors: int
    server: ShareServer | None = None
    end_signal: int = signal.SIGKILL

    def kill(self) -> None:
        """End it at once. For a child of this process; the caller reaps it."""
        if processes.alive(self.pid, self.started):
            os.kill(self.pid, self.end_signal)

    def discard(self) -> None:
        """End it at once, reap it, and close our ends. For a child of this process."""
        self.kill()
        os.waitpid(self.pid, 0)
        for end in (self.control, self.streams, self.monitor, self.console):
            end.close()
        os.close(self.errors)


class Ends(NamedTuple):
    """One side of the channels to a VMM."""

    control: socket.socket
    streams: socket.socket
    monitor: socket.socket
    console: socket.socket


class Channels(NamedTuple):
    """Both sides, and the pipe that brings what the VMM says of itself, before it is forked."""

    ours: Ends
    theirs: Ends
    errors: int
    errors_write: int

    def of(
        self, pid: int, server: ShareServer | None = None, end_signal: int = signal.SIGKILL
    ) -> Vmm:
        """The VMM that was forked with their side, which is closed here."""
        os.close(self.errors_write)
        for end in self.theirs:
            end.close()
        for end in self.ours:
            end.setblocking(False)
        os.set_blocking(self.errors, False)
        started = processes.start_time(pid) or 0
        return Vmm(pid, started, *self.ours, self.errors, server, end_signal)


def open_channels() -> Channels:
    """Channels for a VMM that is to be forked. Raises OSError."""
    ours, theirs = zip(*(socket.socketpair() for _ in Ends._fields), strict=True)
    return Channels(Ends(*ours), Ends(*theirs), *os.pipe2(os.O_CLOEXEC))
