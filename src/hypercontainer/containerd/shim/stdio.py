"""Where a process's streams go: FIFOs, files, or a program that takes them.

The descriptors opened here are handed to the sandbox process, which carries the streams itself.
"""

import errno
import os
import stat
import time

from ...errors import BadRequest, NotSupported
from ...oci.streams import Streams
from .logger import Logger

_READER_BOUND = 5.0
_POLL = 0.01
_FIFO, _FILE, _PROGRAM = ("", "fifo"), "file", "binary"


class Stdio:
    """The streams of one process, by what containerd says of them; "" is none."""

    def __init__(self, stdin: str, stdout: str, stderr: str, *, terminal: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
        self._passed: dict[str, int] = {}
        self._kept: list[int] = []
        self._writer = -1
        self._logger: Logger | None = None

    def open(self, cid: str, namespace: str) -> Streams:
        """Open all; returns what is for the sandbox. Raises BadRequest, NotSupported, HyperError.

        A FIFO that nobody reads is waited for, and then taken as it is.
        """
        try:
            if self.stdin:
                self._open_input(self.stdin)
            if _split(self.stdout)[0] == _PROGRAM:
                self._start_logger(cid, namespace)
            else:
                self._open_output("stdout", self.stdout)
                if not self.terminal:
                    self._open_output("stderr", self.stderr)
        except BaseException:
            self.close()
            raise
        return Streams(list(self._passed), list(self._passed.values()))

    def handed_over(self) -> None:
        """The sandbox has its own copies of what `open` gave."""
        for fd in self._passed.values():
            os.close(fd)
        self._passed.clear()

    def close_stdin(self) -> None:
        """Let stdin's FIFO go: the process sees its end once nobody else may write to it."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def close(self) -> None:
        """Let everything go, and end the program that takes the output."""
        self.handed_over()
        self.close_stdin()
        while self._kept:
            os.close(self._kept.pop())
        if self._logger is not None:
            self._logger.close()
            self._logger = None

    def _open_input(self, uri: str) -> None:
        path = _path("stdin", uri, _FIFO)
        try:
            if stat.S_ISFIFO(os.stat(path).st_mode):
                # Without a writer of our own, a FIFO that nobody has opened yet is at its end.
                self._writer = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._passed["stdin"] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadRequest(f"stdin {path}: {(error.strerror or 'error').lower()}") from None

    def _open_output(self, name: str, uri: str) -> None:
        if not uri:
            return
        path = _path(name, uri, (*_FIFO, _FILE))
        try:
            if _split(uri)[0] == _FILE:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._passed[name] = os.open(path, flags, 0o644)
            elif stat.S_ISFIFO(os.stat(path).st_mode):
                self._passed[name] = self._open_fifo(path)
            else:
                self._passed[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise BadRequest(f"{name} {path}: {(error.strerror or 'error').lower()}") from None

    def _open_fifo(self, path: str) -> int:
        """Raises OSError."""
        writer = _open_for_reader(path)
        # While containerd is away its readers are too: what is written then waits for it.
        self._kept.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        if writer < 0:
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            # One who opens it after the process's end is not to wait for a writer for ever.
            self._kept.append(os.dup(writer))
        return writer

    def _start_logger(self, cid: str, namespace: str) -> None:
        if self.stderr not in ("", self.stdout):
            raise NotSupported(f"stderr {self.stderr}: a program that takes stdout takes both")
        from urllib.parse import parse_qsl

        path, _, query = _path("stdout", self.stdout, (_PROGRAM,)).partition("?")
        arguments = [word for pair in parse_qsl(query, keep_blank_values=True) for word in pair]
        self._logger = Logger(path, [word for word in arguments if word], cid, namespace)
        self._passed.update(stdout=self._logger.stdout, stderr=self._logger.stderr)


def _split(uri: str) -> tuple[str, str]:
    """The scheme, "" for a plain path, and the rest."""
    scheme, separator, rest = uri.partition("://")
    return (scheme, rest) if separator else ("", uri)


def _path(name: str, uri: str, schemes: tuple[str, ...]) -> str:
    scheme, path = _split(uri)
    if scheme not in schemes:
        raise NotSupported(f"{name} {uri}: a stream by {scheme}:// is not supported")
    if not path.startswith("/"):
        raise BadRequest(f"{name} {uri}: an absolute path is needed")
    return path


def _open_for_reader(path: str) -> int:
    """A descriptor to write to a FIFO once somebody reads it; -1 when nobody does in time."""
    deadline = time.monotonic() + _READER_BOUND
    while time.monotonic() < deadline:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        time.sleep(_POLL)
    return -1
