"""What a command works with: the client of hyperd, which is started when it is missing."""

from __future__ import annotations

import os

from .output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..client import TLS, Client


class Session:
    """The global options of one call of `hyper`."""

    def __init__(self, program: str, host: str | None, debug: bool, tls: TLS | None = None) -> None:
        self.program = program
        self.host = host
        self.debug = debug
        self.tls = tls

    def client(self, *, start: bool = True) -> Client:
        """The client of a hyperd that answers; starts hyperd if it is to be local and missing.

        With `start` false it is not contacted yet. Raises DaemonUnavailable.
        """
        from ..client.api import Client

        client = Client(self.host, self.tls)
        if start:
            self._ensure_running(client)
        return client

    def _ensure_running(self, client: Client) -> None:
        from ..client.transport import DaemonUnavailable

        address = client.address
        try:
            address.connect().close()
        except DaemonUnavailable as error:
            if not (error.missing and address.path and os.geteuid() == 0):
                raise
            from .daemonize import start_hyperd

            start_hyperd(address, lambda text: self.note(text))

    def note(self, text: str) -> None:
        """Tell the person something that is not the command's output."""
        tell(f"{self.program}: {text}")
