"""virtiofsd: a process that serves a VM's share over vhost-user (QEMU's docs/tools/virtiofsd).

It runs in namespaces of its own with the share as its root, keeps the capabilities that serving
files as other users takes, and has a seccomp filter: all of that is its own doing. QEMU, which the
guest talks to, then needs none of it. It ends with the connection to QEMU.
"""

import os
import shutil
import signal
import socket

from ..errors import VMError
from ..system import processes, syscalls
from .machine import ShareServer

PACKAGE = "qemu-system-common"
# Debian 12's place, that of the separate package of later versions, and the usual one.
_PLACES = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
# Each bound directory is a file system of its own in the guest, with its own inode numbers.
_OPTIONS = ("announce_submounts", "xattr", "cache=always", "timeout=0", "log_level=err")


def find() -> str:
    """The path of virtiofsd, "" where there is none."""
    return next(filter(os.path.exists, _PLACES), "") or shutil.which("virtiofsd") or ""


def start(directory: str, errors: int) -> ShareServer:
    """Serve `directory` as a child of this process, which it does not outlive.

    What it says goes to the descriptor `errors`. Raises VMError.
    """
    program = find()
    if not program:
        raise VMError(
            f"virtiofsd not found: install {PACKAGE} (apt-get install {PACKAGE}), or use the"
            " share driver 9p"
        )
    # A name that only we know; ours is the first connection, and the only one that is taken.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        listener.bind("")
        listener.listen(1)
        ours.connect(listener.getsockname())
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_virtiofsd(program, directory, listener.fileno(), errors, parent)
    return ShareServer(pid, processes.start_time(pid) or 0, ours)


def _become_virtiofsd(program: str, directory: str, fd: int, errors: int, parent: int) -> None:
    """In the forked child."""
    try:
        processes.stand_alone(errors)
        os.set_inheritable(fd, True)
        syscalls.die_with_parent(signal.SIGKILL)
        syscalls.no_new_privileges()
        if os.getppid() != parent:
            os._exit(1)
        options = [word for option in _OPTIONS for word in ("-o", option)]
        source = directory.replace(",", "\\,")
        os.execv(program, [program, f"--fd={fd}", "-o", f"source={source}", *options])
    except BaseException as error:
        os.write(2, f"starting {program}: {error}\n".encode())
    finally:
        os._exit(1)
