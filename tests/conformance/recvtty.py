"""What runc's tests start to take a container's terminal.

`recvtty --pid-file FILE --mode null SOCKET` takes terminals for as long as it lives, and drops
what comes out of them.
"""

import os
import select
import socket
import sys


def main() -> int:
    """Serve until killed."""
    arguments = sys.argv[1:]
    if "--pid-file" in arguments:
        with open(arguments[arguments.index("--pid-file") + 1], "w") as file:
            file.write(str(os.getpid()))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(arguments[-1])
    listener.listen(16)
    masters: list[int] = []
    while True:
        for ready in select.select([listener.fileno(), *masters], [], [])[0]:
            if ready == listener.fileno():
                with listener.accept()[0] as connection:
                    masters += socket.recv_fds(connection, 4096, 1)[1]
                continue
            try:
                data = os.read(ready, 65536)
            except OSError:
                data = b""
            if not data:
                masters.remove(ready)
                os.close(ready)


if __name__ == "__main__":
    sys.exit(main())
