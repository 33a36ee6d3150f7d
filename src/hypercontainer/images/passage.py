"""A layer's tar on its way through a program that makes files of it, rewritten for overlayfs.

Everything here blocks and belongs in a thread; `Passage.cancel` ends it from another one.
"""

import fcntl
import hashlib
import os
import re
import select
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import HyperError, Timeout
from .compression import CHUNK, Readable, decompress
from .failures import BadImage, no_space, readable_size
from .layer import Facts, NeedsPlan, rewrite
from .layerentries import Limits, Tree
from .layerplan import Plan, make_plan
from .tarstream import ChunkSource, Entry

STALL = 120.0  # seconds that the program may take nothing from us
FINISH = 600.0  # seconds for what it does after the last byte
_PIPE_SIZE = 1 << 20

OpenBlob = Callable[[], AbstractContextManager[Readable]]


class Cancelled(Exception):
    """The passage was cancelled."""


@dataclass(frozen=True)
class Passed:
    """A layer that went through: bytes and digest of its plain tar, and what was found."""

    tar_size: int
    diff_id: str
    facts: Facts


class Passage(ABC):
    """One layer on its way to what `_command` makes of it at `target`."""

    def __init__(
        self,
        open_blob: OpenBlob,
        target: Path,
        what: str,
        diff_id: str | None,
        *,
        limits: Limits | None = None,
        progress: Callable[[int], None] | None = None,
        lock: int | None = None,
    ) -> None:
        """`diff_id` is the digest that the plain tar has to have, None for any.

        `lock` is a file descriptor that the program keeps open for as long as it lives.
        """
        self._open_blob = open_blob
        self._target = target
        self._what = what
        self._diff_id = diff_id
        self._limits = limits or Limits()
        self._progress = progress
        self._lock = lock
        self._cancelled = False
        self._read = 0
        self._sink: ChildSink | None = None

    @abstractmethod
    def _command(self, root: Entry) -> list[str]:
        """The program, which reads the rewritten tar."""

    @abstractmethod
    def _clear(self) -> None:
        """Remove what a failed attempt left at the target."""

    def cancel(self) -> None:
        """Make `run` raise Cancelled soon; from any thread."""
        self._cancelled = True
        if self._sink is not None:
            self._sink.kill()

    def _pass(self) -> Passed:
        """Read, rewrite, write; nothing is left at the target after an error."""
        plan: Plan | None = None
        try:
            try:
                return self._attempt(None)
            except NeedsPlan:
                with self._open_blob() as blob:
                    plan = make_plan(
                        ChunkSource(self._chunks(blob, None)), Tree(self._what, self._limits)
                    )
                return self._attempt(plan)
        except BaseException:
            self._clear()
            raise

    def _attempt(self, plan: Plan | None) -> Passed:
        self._clear()
        digest = hashlib.sha256()
        self._read = 0
        with self._open_blob() as blob:
            chunks = self._chunks(blob, digest.update)
            sink = self._sink = ChildSink(
                self._target, self._what, self._lock, lambda: self._cancelled, self._command
            )
            with sink:
                facts = rewrite(ChunkSource(chunks), sink, self._what, self._limits, plan)
                for _ in chunks:
                    pass
                found = f"sha256:{digest.hexdigest()}"
                if self._diff_id not in (None, found):
                    raise BadImage(
                        f"{self._what} does not match its digest: it should hold {self._diff_id},"
                        f" and holds {found}"
                    )
                sink.finish()
        return Passed(self._read, found, facts)

    def _chunks(self, blob: Readable, update: Callable[[bytes], None] | None) -> Iterator[bytes]:
        for chunk in decompress(blob, self._what):
            if self._cancelled:
                raise Cancelled
            self._read += len(chunk)
            if self._read > 2 * self._limits.bytes:
                raise BadImage(f"{self._what} is refused: it is too large")
            if update is not None:
                update(chunk)
            if self._progress is not None:
                self._progress(self._read)
            yield chunk


class ChildSink:
    """The rewritten tar's way into a program: a sink, and a context that leaves no child."""

    def __init__(
        self,
        target: Path,
        what: str,
        lock: int | None,
        cancelled: Callable[[], bool],
        command: Callable[[Entry], list[str]],
    ) -> None:
        """`command` makes the program's arguments once the root's attributes are known.

        `lock` is a file descriptor that the program keeps open for as long as it lives.
        """
        self._target = target
        self._lock = lock
        self._what = what
        self._command = command
        self._name = ""
        self._is_cancelled = cancelled
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[bytes | memoryview] = []
        self._size = 0
        self._sent = 0
        self._errors = b""

    def __enter__(self) -> "ChildSink":
        return self

    def __exit__(self, *_: object) -> None:
        child = self._child
        if child is None:
            return
        child.kill()
        child.wait(timeout=FINISH)
        for stream in (child.stdin, child.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def begin(self, root: Entry) -> None:
        """Start the program. Raises NotSupported when it is not there."""
        command = self._command(root)
        self._name = os.path.basename(command[0])
        environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
        self._child = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**environment, "LC_ALL": "C"},
            start_new_session=True,
            pass_fds=() if self._lock is None else (self._lock,),
        )
        stdin, stderr = self._streams()
        os.set_blocking(stdin.fileno(), False)
        os.set_blocking(stderr.fileno(), False)
        try:
            fcntl.fcntl(stdin.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except PermissionError:
            pass  # over the user's limit of pipe memory: the usual size does

    def _streams(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._child and self._child.stdin and self._child.stderr
        return self._child.stdin, self._child.stderr

    def kill(self) -> None:
        """End the child; from any thread."""
        if self._child is not None:
            self._child.kill()

    def write(self, data: bytes | memoryview) -> None:
        """Give it more. Raises what its failure is, Timeout."""
        self._pending.append(data)
        self._size += len(data)
        if self._size >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        self._size = 0
        stdin, _ = self._streams()
        while data:
            try:
                sent = os.write(stdin.fileno(), data)
            except BlockingIOError:
                self._wait_for_room()
                continue
            except BrokenPipeError:
                raise self._failure() from None
            self._sent += sent
            data = data[sent:]

    def _wait_for_room(self) -> None:
        stdin, stderr = self._streams()
        poller = select.poll()
        poller.register(stdin, select.POLLOUT)
        poller.register(stderr, select.POLLIN)
        deadline = time.monotonic() + STALL
        while (left := deadline - time.monotonic()) > 0:
            ready = poller.poll(left * 1000)
            for fd, _ in ready:
                if fd == stderr.fileno() and not self._drain():
                    poller.unregister(stderr)
            if any(fd == stdin.fileno() for fd, _ in ready):
                return
        raise Timeout(
            f"{self._what}: {self._name} took no data for {STALL:.0f} s: is the disk stuck?"
        )

    def _drain(self) -> bool:
        """Take what the child says; False at its end."""
        _, stderr = self._streams()
        data = stderr.read(65536)
        self._errors = (self._errors + (data or b""))[-4096:]
        return data != b""

    def finish(self) -> None:
        """Send what is left and wait until it is done with it."""
        self._flush()
        child = self._child
        assert child is not None
        stdin, stderr = self._streams()
        stdin.close()
        deadline = time.monotonic() + FINISH
        poller = select.poll()
        poller.register(stderr, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0 and poller.poll(left * 1000):
            if not self._drain():
                break
        try:
            code = child.wait(timeout=max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            text = f"{self._what}: {self._name} did not end within {FINISH:.0f} s"
            raise Timeout(text) from None
        if code != 0:
            raise self._failure()

    def _failure(self) -> Exception:
        """Why the child ended early."""
        child = self._child
        assert child is not None
        if self._is_cancelled():
            return Cancelled()
        try:
            child.wait(timeout=STALL)
        except subprocess.TimeoutExpired:
            return Timeout(f"{self._what}: {self._name} closed its input and does not end")
        while self._drain() and not self._errors.endswith(b"\0"):
            if select.select([self._streams()[1]], [], [], 0)[0] == []:
                break
        text = self._errors.decode("utf-8", "replace")
        # The last is all that tar says of a file that only a part had room of.
        if re.search("No space left|Disk quota|Wrote only", text):
            need = f"{self._what} needs more than {readable_size(self._sent)}"
            return no_space(str(self._target.parent), need)
        fatal = re.findall(r"(?:FATAL ERROR|ERROR): *(.+)", text)
        said = [line for line in text.splitlines() if "due to previous errors" not in line]
        lines = fatal or said or [f"status {child.returncode}"]
        reason = lines[-1]
        return HyperError(f"{self._what} can't be converted: {self._name}: {reason}", detail=text)
