"""The host process that stands for a process of the guest.

Engines need a pid that they can wait for and signal, and list by command line.
That process is a shell of a few hundred KiB under the name of what runs in the
guest: it reports the signals that it gets and exits with the code that the
sandbox sends it.
"""

import fcntl
import os
import signal
import socket
import termios
from collections.abc import Callable

_SHELL = "/bin/sh"
_ENTERED, _READY = b"\xff", b"\n"
_SIGNALS = "HUP INT QUIT USR1 USR2 ALRM TERM CONT WINCH"
_MAX_NAME = 4096
# `read` ends early when a trap ran; without one, the sandbox is gone. Nothing but the shell itself
# may run, whose root can be the container's. It counts for half a second or so.
_SCRIPT = f"""
for s in {_SIGNALS}; do trap "t=1; echo $s >&3" $s; done
echo >&3
while :; do
    t=
    if read -r code <&3; then exit "$code"; fi
    if [ -z "$t" ]; then
        i=0; while [ $i -lt @COUNT@ ]; do i=$((i+1)); done
        exit 137
    fi
done
"""
# The first process of a container must not seem to end before the others.
_FIRST_COUNT = "300000"


def spawn(
    args: list[str],
    enter: Callable[[], None] = lambda: None,
    terminal: int | None = None,
    *,
    first: bool,
) -> tuple[int, int]:
    """Start the proxy of the guest's command `args`, a child of this process.

    `enter` runs in it first, to enter namespaces and control groups; it gets
    the signals of `terminal` (a descriptor), such as those of a new size;
    `first` says that it stands for the first process of a container.
    Returns its pid and our end, once the shell runs. Raises OSError when `enter` fails.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            enter()
            os.setsid()
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            script, to_script = os.pipe()
            script_text = _SCRIPT.replace("@COUNT@", _FIRST_COUNT if first else "0")
            os.write(to_script, script_text.encode())
            os.dup2(script, 0)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (1, 2):
                os.dup2(null, fd)
            os.dup2(theirs.fileno(), 3)
            os.closerange(4, 1024)
            os.chdir("/")
            for signum in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, signal.SIG_DFL)
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


def _name(args: list[str]) -> str:
    """The command as one line; a shell whose name begins with a dash would be a login shell."""
    return " ".join(" ".join(args).replace("\0", " ").split())[:_MAX_NAME].lstrip("-") or "runv"
