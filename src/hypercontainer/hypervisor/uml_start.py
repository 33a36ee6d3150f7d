"""Starting User Mode Linux: its command line, and the jail that it and its processes are in."""

import os
import select
import signal
import socket
import sys
from typing import NamedTuple

from ..system import handover, processes, syscalls
from ..system.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, MS_NODEV, MS_NOSUID
from . import jail
from .machine import Ends, Machine, Vmm, open_channels

# In the jail: what the VM may write, with its memory and its management console in it, and where
# root leaves what stands for its disks.
SCRATCH, NAME = "/dev/shm", "vm"
DISKS = "/disks"
CONSOLE = (NAME, "mconsole")
_ANSWERS = f"{DISKS}/answers"
# MiB beside the guest's memory: pages of the kernel's own.
_OVERHEAD = 64
_ARGUMENTS = (
    *("con=null", "ssl=null", f"umid={NAME}", f"uml_dir={SCRATCH}/"),
    # Else it would execute itself again.
    "noreboot",
    *("console=tty0", "loglevel=4", "panic=-1", "hyper.ports=ttyS0,ttyS1"),
    *("dummy.numdummies=0", "random.trust_cpu=on"),
)
# By numbers of x86-64: what programs have taken hosts' kernels by, and it has no use for.
# ptrace and clone are how it works.
_REFUSED = (
    *(155, 161, 163, 165, 166, 167, 168),  # pivot_root chroot acct mount umount2 swapon swapoff
    *(169, 170, 171, 172, 173, 175, 176),  # reboot set{host,domain}name iopl ioperm *_module
    *(246, 248, 249, 250, 272, 298, 303, 304),  # kexec keys unshare perf_event handles
    *(308, 310, 311, 313, 320, 321, 323),  # setns process_vm_* finit_module kexec bpf userfaultfd
    *(425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442),  # io_uring mounts pidfds
)


class Handles(NamedTuple):
    """What the VMM's process leaves us before it executes it, as descriptors: the listener of its
    opens, the socket that its management console answers to, and the directories."""

    listener: int
    answers: int
    disks: int
    scratch: int


def command(machine: Machine, control: int, streams: int, console: int) -> list[str]:
    """The command line of `machine`, with the guest's ends of its channels."""
    return [
        machine.kernel,
        f"mem={machine.memory_mib}M",
        f"initrd={machine.initrd}",
        *(f"ssl0=fd:{control}", f"ssl1=fd:{streams}", f"con0=fd:{console}"),
        *_ARGUMENTS,
        *machine.append.split(),
    ]


def start(machine: Machine) -> Vmm:
    """Start it as a child of this process, which it does not outlive. Raises OSError.

    It is the first process of a namespace, so that all processes of its guest end with it: else
    they would go on as programs of the host.
    """
    channels = open_channels()
    namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(CLONE_NEWPID)
    try:
        pid = os.fork()
        if pid == 0:
            for end in channels.ours:
                end.close()
            _become_uml(machine, channels.theirs, channels.errors_write)
    finally:
        syscalls.setns(namespace, CLONE_NEWPID)
        os.close(namespace)
    return channels.of(pid)


def _become_uml(machine: Machine, ends: Ends, errors: int) -> None:
    """In the forked child: give up all that it does not need, then execute it."""
    try:
        # What it says of itself belongs to what its kernel says.
        processes.stand_alone(ends.console.fileno())
        os.dup2(2, 1)
        channels = [end.fileno() for end in (ends.control, ends.streams, ends.console)]
        for fd in channels:
            os.set_inheritable(fd, True)
        syscalls.unshare(CLONE_NEWNET | CLONE_NEWIPC)
        jail.enter(
            machine.jail,
            [machine.kernel, machine.initrd],
            "",
            None,
            lambda root: _add_places(root, machine),
        )
        answers = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        answers.bind(_ANSWERS)
        os.chmod(_ANSWERS, 0o666)
        directories = [os.open(p, os.O_PATH | os.O_DIRECTORY) for p in (DISKS, SCRATCH)]
        syscalls.keep_only_capabilities(())
        os.setgroups([])
        os.setresgid(machine.user_id, machine.user_id, machine.user_id)
        os.setresuid(machine.user_id, machine.user_id, machine.user_id)
        syscalls.die_with_parent(signal.SIGKILL)
        syscalls.no_new_privileges()
        # The memory that lies between its program and random addresses would be the guest's, and
        # tables for each page of it.
        syscalls.fixed_addresses()
        listener = handover.install(_REFUSED)
        handles = Handles(listener, answers.fileno(), *directories)
        socket.send_fds(ends.monitor, [b"\0"], list(handles))
        for fd in handles:
            os.close(fd)
        if select.select([ends.control], [], [], 0)[0]:
            # Only its end can have come: whoever started us is gone.
            os._exit(1)
        os.execve(machine.kernel, command(machine, *channels), {"HOME": "/"})
    except BaseException as error:
        os.write(errors, f"starting {machine.kernel}: {error}\n".encode())
    finally:
        sys.stdout = sys.stderr = None
        os._exit(1)


def _add_places(root: str, machine: Machine) -> None:
    """What the jail has beside files: the VM's own place, and that of its disks."""
    flags = MS_NOSUID | MS_NODEV
    os.makedirs(root + SCRATCH)
    user, size = machine.user_id, machine.memory_mib + _OVERHEAD
    options = f"size={size}m,mode=700,uid={user},gid={user}"
    syscalls.mount("memory", root + SCRATCH, "tmpfs", flags, options)
    os.mkdir(root + DISKS)
    syscalls.mount("disks", root + DISKS, "tmpfs", flags, "size=64k,mode=755")


def handles(monitor: socket.socket) -> Handles | None:
    """What the process left us; None while it has left nothing. Raises OSError, EOFError."""
    try:
        data, fds, _, _ = socket.recv_fds(monitor, 1, len(Handles._fields))
    except BlockingIOError:
        return None
    if not data or len(fds) != len(Handles._fields):
        for fd in fds:
            os.close(fd)
        raise EOFError
    return Handles(*fds)
