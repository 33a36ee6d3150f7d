"""Turning a layer's tar into a squashfs image, by `sqfstar` as a child process.

Everything here blocks and belongs in a thread; `Conversion.cancel` ends it from another one.
"""

import fcntl
import hashlib
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import HyperError, Timeout
from .compression import CHUNK, Readable, decompress
from .failures import BadImage, disk_errors, find_program, no_space, readable_size
from .layer import Facts, NeedsPlan, rewrite
from .layerentries import Limits, Tree
from .layerplan import Plan, make_plan
from .tarstream import ChunkSource, Entry

FSTYPE = "squashfs"
STALL = 120.0  # seconds that sqfstar may take nothing from us
FINISH = 600.0  # seconds for writing its tables, after the last byte
_PIPE_SIZE = 1 << 20
# More memory than this made sqfstar 4.5.1 slower: a large queue of blocks leaves the caches.
_OPTIONS = (
    "-comp lz4 -processors 1 -mem 64M -no-progress -quiet -exit-on-error -mkfs-time 0".split()
)

OpenBlob = Callable[[], AbstractContextManager[Readable]]


class Cancelled(Exception):
    """The conversion was cancelled."""


@dataclass(frozen=True)
class Converted:
    """A layer's disk image, as it was made."""

    tar_size: int
    size: int
    facts: Facts


class Conversion:
    """One layer on its way to a disk image."""

    def __init__(
        self,
        open_blob: OpenBlob,
        target: Path,
        what: str,
        diff_id: str,
        *,
        limits: Limits | None = None,
        progress: Callable[[int], None] | None = None,
        lock: int | None = None,
    ) -> None:
        """`lock` is a file descriptor that sqfstar keeps open for as long as it lives."""
        self._open_blob = open_blob
        self._target = target
        self._what = what
        self._diff_id = diff_id
        self._limits = limits or Limits()
        self._progress = progress
        self._lock = lock
        self._cancelled = False
        self._read = 0
        self._writer: _Writer | None = None

    def cancel(self) -> None:
        """Make `run` raise Cancelled soon; from any thread."""
        self._cancelled = True
        if self._writer is not None:
            self._writer.kill()

    def run(self) -> Converted:
        """Read, rewrite, compress; nothing is left at the target after an error.

        Raises BadImage, NoSpace, Timeout, NotSupported (no sqfstar), Cancelled.
        """
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
            self._target.unlink(missing_ok=True)
            raise

    def _attempt(self, plan: Plan | None) -> Converted:
        self._target.unlink(missing_ok=True)
        digest = hashlib.sha256()
        self._read = 0
        with self._open_blob() as blob:
            chunks = self._chunks(blob, digest.update)
            writer = self._writer = _Writer(
                self._target, self._what, self._lock, lambda: self._cancelled
            )
            with writer:
                facts = rewrite(ChunkSource(chunks), writer, self._what, self._limits, plan)
                for _ in chunks:
                    pass
                found = f"sha256:{digest.hexdigest()}"
                if found != self._diff_id:
                    raise BadImage(
                        f"{self._what} does not match its digest: it should hold {self._diff_id},"
                        f" and holds {found}"
                    )
                writer.finish()
        self._sync()
        return Converted(self._read, self._target.stat().st_size, facts)

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

    def _sync(self) -> None:
        fd = os.open(self._target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with disk_errors(str(self._target.parent), f"{self._what} does not fit"):
                os.fdatasync(fd)
        finally:
            os.close(fd)


class _Writer:
    """The rewritten tar's way into `sqfstar`: a sink, and a context that leaves no child."""

    def __init__(
        self, target: Path, what: str, lock: int | None, cancelled: Callable[[], bool]
    ) -> None:
        self._target = target
        self._lock = lock
        self._what = what
        self._is_cancelled = cancelled
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[bytes | memoryview] = []
        self._size = 0
        self._sent = 0
        self._errors = b""

    def __enter__(self) -> "_Writer":
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
        command = [
            find_program("sqfstar", "squashfs-tools"),
            *_OPTIONS,
            *("-root-mode", f"{root.mode:o}"),  # 4.5.1 ignores -root-uid, -root-gid, -root-time
            str(self._target),
        ]
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
        raise Timeout(f"{self._what}: sqfstar took no data for {STALL:.0f} s: is the disk stuck?")

    def _drain(self) -> bool:
        """Take what the child says; False at its end."""
        _, stderr = self._streams()
        data = stderr.read(65536)
        self._errors = (self._errors + (data or b""))[-4096:]
        return data != b""

    def finish(self) -> None:
        """Send what is left and wait for the image to be complete."""
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
            raise Timeout(f"{self._what}: sqfstar did not end within {FINISH:.0f} s") from None
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
            return Timeout(f"{self._what}: sqfstar closed its input and does not end")
        while self._drain() and not self._errors.endswith(b"\0"):
            if select.select([self._streams()[1]], [], [], 0)[0] == []:
                break
        text = self._errors.decode("utf-8", "replace")
        if "No space left" in text or "Disk quota" in text:
            need = f"{self._what} needs more than {readable_size(_written(self._target))}"
            return no_space(str(self._target.parent), need)
        fatal = re.findall(r"(?:FATAL ERROR|ERROR): *(.+)", text)
        reason = (
            fatal[-1] if fatal else text.strip().splitlines()[-1:] or f"status {child.returncode}"
        )
        return HyperError(f"{self._what} can't be converted: sqfstar: {reason}", detail=text)


def _written(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
