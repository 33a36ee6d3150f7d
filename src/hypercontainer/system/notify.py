"""Telling a service manager that a daemon is ready: sd_notify(3)'s protocol."""

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Says to the service manager, if there is one, how this daemon is."""

    def __init__(self) -> None:
        """Take the socket's name from the environment, where children would find it too."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(self, *lines: str) -> None:
        """Send states such as `READY=1`; one that can't be told is logged."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.settimeout(5.0)
                address = self._address
                sock.connect("\0" + address[1:] if address[0] == "@" else address)
                sock.send("\n".join(lines).encode())
            except OSError as error:
                log.warning("notify %s: %s", self._address, error)
