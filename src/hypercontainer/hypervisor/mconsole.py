"""User Mode Linux's management console: requests and answers, each a datagram.

The format is that of struct mconsole_request and mconsole_reply (arch/um/drivers/mconsole.h of
Linux): a request is magic, version and length as 32-bit numbers of the host's byte order and 512
bytes of text; an answer is error, more and length, and up to 512 bytes of text. One that is longer
comes in several, all but the last with `more`.
"""

import asyncio
import os
import socket
import stat
import struct
from typing import NamedTuple

from ..errors import VMError

_MAGIC, _VERSION = 0xCAFEBABE, 2
_TEXT = 512
_REQUEST = struct.Struct(f"=III{_TEXT}s")
_ANSWER = struct.Struct("=III")
_MAX_ANSWER = 1 << 16
_POLL = 0.01


class Answer(NamedTuple):
    """One datagram of an answer; with `more`, others follow."""

    failed: bool
    more: bool
    text: str


def request(command: str) -> bytes:
    """The datagram of a command. Raises VMError for one that is too long."""
    text = command.encode()
    if len(text) >= _TEXT:
        raise VMError(f"a command of {len(text)} bytes is too long for the management console")
    return _REQUEST.pack(_MAGIC, _VERSION, len(text), text)


def answer(datagram: bytes) -> Answer:
    """What a datagram says. Raises VMError for what is no answer."""
    if len(datagram) < _ANSWER.size:
        raise VMError("the management console sent what is no answer")
    failed, more, length = _ANSWER.unpack_from(datagram)
    if length > len(datagram) - _ANSWER.size:
        raise VMError("the management console sent what is no answer")
    text = datagram[_ANSWER.size :][:length].partition(b"\0")[0]
    return Answer(bool(failed), bool(more), text.decode(errors="replace").strip())


class Console:
    """The management console of one VM.

    `own` is the socket to ask with, which the VMM can answer, `directory` a descriptor of the
    directory that the VMM makes its socket in: what else it makes there is not believed.
    """

    def __init__(self, own: socket.socket, directory: int, path: tuple[str, str]) -> None:
        self._own = own
        self._directory = directory
        self._path = path
        self._lock = asyncio.Lock()
        own.setblocking(False)

    async def ask(self, command: str, timeout: float) -> str:
        """The answer to a command, in `timeout` seconds. Raises VMError."""
        what = command.partition("=")[0]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout), self._lock:
                self._forget()
                await self._send(request(command))
                said, more = "", True
                while more:
                    part = answer(await loop.sock_recv(self._own, _ANSWER.size + _TEXT))
                    said, more = said + part.text, part.more
                    if part.failed:
                        raise VMError(f"User Mode Linux refused {what}: {said}")
                    if len(said) > _MAX_ANSWER:
                        raise VMError(f"User Mode Linux said too much of {what}")
                return said
        except TimeoutError:
            raise VMError(f"User Mode Linux did not answer {what} in {timeout:.0f} s") from None
        except OSError as error:
            raise VMError(f"the virtual machine is gone: {error.strerror}") from error

    def _forget(self) -> None:
        """Drop the answer to a request that was given up."""
        try:
            while self._own.recv(1):
                pass
        except BlockingIOError:
            pass

    async def _send(self, datagram: bytes) -> None:
        """Send it as soon as the VMM has made its socket. Raises OSError."""
        while True:
            try:
                target = self._socket()
            except FileNotFoundError:
                await asyncio.sleep(_POLL)
                continue
            try:
                self._own.sendto(datagram, f"/proc/self/fd/{target}")
                return
            except (BlockingIOError, ConnectionRefusedError):
                await asyncio.sleep(_POLL)
            finally:
                os.close(target)

    def _socket(self) -> int:
        """The VMM's socket, reached without any link that it may have made. Raises OSError."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        name, file = self._path
        directory = os.open(name, flags | os.O_DIRECTORY, dir_fd=self._directory)
        try:
            found = os.open(file, flags, dir_fd=directory)
        finally:
            os.close(directory)
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            os.close(found)
            raise FileNotFoundError(file)
        return found

    def close(self) -> None:
        """Let the console go."""
        self._own.close()
        os.close(self._directory)
