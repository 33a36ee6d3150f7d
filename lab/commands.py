"""Commands for a lab machine, and what they say, over one byte stream to `lab/guest/agent`.

A command is a line `NONCE SCRIPT` with the shell script in base64. Its output comes as it is,
then \\1, NONCE, a space, the exit code and a newline.
"""

import base64
import secrets
import select
import socket
import time
from collections.abc import Callable

from .errors import LabError

_CHUNK = 1 << 16
_READY = b"ready"


class Commands:
    """Our end of the stream; one command at a time."""

    def __init__(self, port: socket.socket, on_output: Callable[[bytes], None]) -> None:
        """`on_output` gets what commands say, in pieces."""
        self._port = port
        self._on_output = on_output
        self._seen = b""

    def wait_ready(self, bound: float) -> None:
        """Wait `bound` seconds for the other end to take commands. Raises LabError."""
        self._answer(_READY, bound, "start")

    def run(self, script: str, bound: float) -> int:
        """Run a shell script; its exit code. Raises LabError after `bound` seconds."""
        nonce = secrets.token_hex(8).encode()
        self._port.sendall(nonce + b" " + base64.b64encode(script.encode()) + b"\n")
        return self._answer(nonce, bound, f"end: {script.strip().splitlines()[-1]}")

    def output_of(self, script: str, bound: float) -> str:
        """What a script says that must succeed. Raises LabError."""
        parts: list[bytes] = []
        pass_on, self._on_output = self._on_output, parts.append
        try:
            code = self.run(script, bound)
        finally:
            self._on_output = pass_on
        said = b"".join(parts).decode(errors="replace")
        if code:
            raise LabError(f"{script.strip()}: exit code {code}: {said.strip()[-500:]}")
        return said

    def _answer(self, nonce: bytes, bound: float, what: str) -> int:
        """Pass output on until the end of the command of `nonce`; its exit code."""
        mark = b"\1" + nonce + b" "
        deadline = time.monotonic() + bound
        while True:
            before, found, after = self._seen.partition(mark)
            if found and b"\n" in after:
                self._say(before)
                code, _, self._seen = after.partition(b"\n")
                return int(code)
            # What may be the beginning of the mark waits for the rest.
            keep = len(before) if found else max(len(self._seen) - len(mark) + 1, 0)
            self._say(self._seen[:keep])
            self._seen = self._seen[keep:] + self._receive(deadline, bound, what)

    def _say(self, said: bytes) -> None:
        if said:
            self._on_output(said)

    def _receive(self, deadline: float, bound: float, what: str) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._port], [], [], left)[0]:
            raise LabError(f"the machine did not within {bound:.0f} s {what}")
        try:
            data = self._port.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            raise LabError(f"the machine is gone; it should have come to {what}")
        return data
