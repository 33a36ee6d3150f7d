"""The host process that stands for a process of the guest.

Engines need a pid that they can wait for and signal, and list by command line.
That process is a shell of a few hundred KiB under the name of what runs in the
guest: it reports the signals that it gets and exits with the code that the
sandbox sends it.

A container's proxies share a pid namespace, whose init is the one of the container's first
process: the kernel ends the others before it, however it ends, and engines see what they
see of other runtimes' containers.
"""

import fcntl
import os

from ..quick import signals, sockets
from ..quick.types import Callable
from ..system import syscalls

_SHELL = "/bin/sh"
_ENTERED, _READY = b"\xff", b"\n"
_SIGNALS = "HUP INT QUIT USR1 USR2 ALRM TERM CONT WINCH"
_MAX_NAME = 4096
# `read` ends early when a trap ran; without one, the sandbox is gone. Nothing but the shell itself
# may run, whose root can be the container's.
_SCRIPT = f"""
for s in {_SIGNALS}; do trap "t=1; echo $s >&3" $s; done
echo >&3
while :; do
    t=
    if read -r code <&3; then exit "$code"; fi
    if [ -z "$t" ]; then exit 137; fi
done
"""


def spawn(
    args: list[str],
    enter: Callable[[], None] = lambda: None,
    terminal: int | None = None,
    *,
    beside: int = 0,
) -> tuple[int, int]:
    """Start the proxy of the guest's command `args`, a child of this process.

    `enter` runs in it first, to enter namespaces and control groups; it gets
    the signals of `terminal` (a descriptor), such as those of a new size;
    `beside` is the proxy of the container's first process, 0 for that one itself.
    Returns its pid and our end, once the shell runs. Raises OSError when `enter` fails.
    """
    ours, theirs = sockets.pair()
    pid = _fork(beside)
    if pid == 0:
        try:
            enter()
            os.setsid()
            if terminal is not None:
                import termios

                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            script, to_script = os.pipe()
            os.write(to_script, _SCRIPT.encode())
            os.dup2(script, 0)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (1, 2):
                os.dup2(null, fd)
            os.dup2(theirs.fileno(), 3)
            os.closerange(4, 1024)
            os.chdir("/")
            for signum in (signals.SIGPIPE, signals.SIGINT, signals.SIGTERM, signals.SIGHUP):
                signals.signal(signum, signals.SIG_DFL)
            os.write(3, _ENTERED)
            os.execv(_SHELL, [_name(args)])
        except OSError as error:
            os.write(theirs.fileno(), (error.errno or 0).to_bytes(1, "big"))
        finally:
            os._exit(127)
    theirs.close()
    said = ours.recv(1)
    if said != _ENTERED:
        os.waitpid(pid, 0)
        number = said[0] if said else 0
        raise OSError(number, os.strerror(number))
    while said not in (_READY, b""):
        said = ours.recv(1)
    return pid, ours.detach()


def _fork(beside: int) -> int:
    """Fork into a new pid namespace or that of a process, where we may. Raises OSError."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _choose_pid_namespace(beside)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                _return(own)
        return pid
    finally:
        os.close(own)


def _choose_pid_namespace(beside: int) -> None:
    """For the children to come."""
    try:
        if not beside:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            return
        namespace = os.open(f"/proc/{beside}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWPID)
        finally:
            os.close(namespace)
    except PermissionError:
        pass


def _return(own: int) -> None:
    try:
        syscalls.setns(own, syscalls.CLONE_NEWPID)
    except PermissionError:
        pass


def _name(args: list[str]) -> str:
    """The command as one line; a shell whose name begins with a dash would be a login shell."""
    return " ".join(" ".join(args).replace("\0", " ").split())[:_MAX_NAME].lstrip("-") or "runv"
