"""The synchronous client of a sandbox process, for commands that start anew each time.

Costs no asyncio, and can pass file descriptors along.
"""

import os

from ..errors import VMError, from_wire
from ..quick import json, sockets
from ..quick.types import TYPE_CHECKING, Any, Iterator
from .state import SOCKET, read_state

if TYPE_CHECKING:
    import _socket

_LINE = 8 << 20
_FOLLOW_BOUND = 60.0


def call(
    state_dir: str,
    op: str,
    request: dict[str, Any] | None = None,
    *,
    fds: list[int] | None = None,
    timeout: float | None = 600.0,
) -> dict[str, Any]:
    """One request to the sandbox of `state_dir`, with descriptors that it gets copies of.

    `timeout` is in seconds, None waits as long as it takes. Raises the
    sandbox's errors, and VMError when it is gone.
    """
    body = json.dumps({"op": op, **(request or {})}).encode() + b"\n"
    with sockets.stream() as sock:
        sock.settimeout(timeout)
        try:
            _connect(sock, state_dir)
            sent = sockets.send_fds(sock, body[:1], fds) if fds else 0
            sock.sendall(body[sent:])
            line = _read_line(sock)
        except OSError as error:
            raise VMError(f"the sandbox is gone: {_reason(state_dir)}") from error
    if not line:
        raise VMError(f"the sandbox is gone: {_reason(state_dir)}")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise from_wire(answer["error"])
    return answer


def follow(state_dir: str) -> Iterator[dict[str, Any]]:
    """The sandbox's events (see `SandboxClient.events`) from the first `next` on, which gives {}.

    Ends with the sandbox, however that ends. Raises VMError when it is gone before.
    """
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(_FOLLOW_BOUND)
            _connect(sock, state_dir)
            sock.sendall(b'{"op": "events"}\n')
            with sock.makefile("rb") as lines:
                if not (line := lines.readline(_LINE)):
                    raise VMError(f"the sandbox is gone: {_reason(state_dir)}")
                sock.settimeout(None)
                yield {}
                while line := lines.readline(_LINE):
                    yield json.loads(line)
        except ConnectionResetError:
            return
        except OSError as error:
            raise VMError(f"the sandbox is gone: {_reason(state_dir)}") from error


def _connect(sock: "_socket.socket", state_dir: str) -> None:
    """Past the 108 bytes that a socket's address may have, by way of the directory."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{SOCKET}")
    finally:
        os.close(directory)


def _read_line(sock: sockets.Socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n") and len(data) < _LINE:
        chunk = sock.recv(1 << 16)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _reason(state_dir: str) -> str:
    state = read_state(state_dir)
    return str(state["reason"]) if state and state["reason"] else "it does not answer"
