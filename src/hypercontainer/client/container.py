"""Containers as objects, and running a program to its end."""

from __future__ import annotations

import contextlib
import time

from ..errors import HyperError, NotFound, NotRunning
from . import cancel, filesets
from .bounds import MAX_BYTES, MAX_FILES, MAX_OUTPUT
from .exchange import exchange
from .options import described
from .transport import DaemonUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .api import Client
    from .exchange import Output
    from .options import Options

_RESTART = 15.0
"""Seconds for which a hyperd that does not answer is waited for, to remove what is left."""
_RETRY = 0.2


class Result:
    """What a program that ended has left.

    `exit_code` is 128+n for a death by signal n, so 137 where `timed_out` says that it was
    killed after its time. `truncated` says that stdout or stderr is cut at `max_output`.
    `files` are those that were asked for.
    """

    __slots__ = ("exit_code", "files", "stderr", "stdout", "timed_out", "truncated")

    def __init__(
        self,
        exit_code: int,
        stdout: bytes,
        stderr: bytes,
        *,
        timed_out: bool = False,
        truncated: bool = False,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.timed_out = timed_out
        self.truncated = truncated
        self.files = dict(files or {})

    def __repr__(self) -> str:
        about = f"exit_code={self.exit_code}, stdout={self.stdout[:60]!r}"
        more = ", timed_out=True" if self.timed_out else ""
        return f"Result({about}, stderr={self.stderr[:60]!r}{more})"

    @classmethod
    def of(cls, exit_code: int, output: Output) -> Result:
        """A result with what came over the streams."""
        stdout, stderr = (bytes(part) for part in output.parts.values())
        return cls(
            exit_code, stdout, stderr, timed_out=output.timed_out, truncated=output.truncated
        )


class Container:
    """A container of hyperd, by name or id.

    As a context manager it is removed at the end of the block, running or not, whatever
    happened in it. Methods raise NotFound once it is gone.
    """

    def __init__(self, client: Client, id: str) -> None:
        self.client = client
        self.id = id

    def __repr__(self) -> str:
        return f"Container({self.id!r})"

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove it, running or not, and its anonymous volumes; it may be gone already.

        A hyperd that is just restarted is waited for. Raises DaemonUnavailable.
        """
        cancel.forget()
        deadline = time.monotonic() + _RESTART
        while True:
            try:
                return self.client.remove_container(self.id, force=True, volumes=True)
            except NotFound:
                return None
            except DaemonUnavailable as error:
                if not error.missing or time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY)

    def start(self) -> None:
        """Start it. Raises ProgramError when its program can't be executed, VMError."""
        self.client.start_container(self.id)

    def stop(self, timeout: int | None = None) -> None:
        """Ask it to stop; SIGKILL after `timeout` seconds (None: as it was created with)."""
        self.client.stop_container(self.id, timeout)

    def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its first process."""
        self.client.kill_container(self.id, signal)

    def remove(self, *, force: bool = False) -> None:
        """Remove it. Raises Conflict while it runs, unless `force`."""
        self.client.remove_container(self.id, force=force, volumes=True)

    def wait(self, timeout: int | None = None) -> int:
        """Wait for its end; its exit code. Raises Timeout after `timeout` seconds."""
        return self.client.wait(self.id, timeout=timeout)

    def inspect(self) -> dict[str, Any]:
        """Everything about it, in Docker's form."""
        return self.client.inspect_container(self.id)

    def stats(self) -> dict[str, Any]:
        """What it uses, in Docker's form. Raises NotRunning."""
        found = next(self.client.stats([self.id], stream=False), [])
        if not found:
            raise NotRunning(f"container {self.id} is not running")
        return found[0]

    def logs(self, *, tail: int | None = None, max_output: int = MAX_OUTPUT) -> Result:
        """What it wrote so far, the streams apart; `exit_code` is -1 while it runs."""
        from .exchange import Output
        from .streams import STDOUT, Demultiplexer

        state = self.inspect()
        frames, output = Demultiplexer(), Output()
        for chunk in self.client.logs(self.id, tail=tail):
            if state["Config"]["Tty"]:
                output.take(STDOUT, memoryview(chunk), max_output)
                continue
            for which, part in frames.feed(chunk):
                output.take(which, part, max_output)
        running = state["State"]["Running"]
        return Result.of(-1 if running else int(state["State"]["ExitCode"]), output)

    def run_to_end(
        self,
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> Result:
        """Start it, feed it and collect its output until it ends.

        After `timeout` seconds from its start it is killed. With `input` it must have been
        created with `stdin`.
        """
        with self.client.attach(self.id, stdin=input is not None) as stream:
            self.start()
            output = exchange(
                stream, input, limit=max_output, timeout=timeout, kill=self._kill_quietly
            )
        return Result.of(self.wait(), output)

    def _kill_quietly(self) -> None:
        with contextlib.suppress(NotRunning, NotFound):
            self.kill()

    def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> Result:
        """Run another program in it, to its end; after `timeout` seconds that is killed.

        Raises NotRunning, and ProgramError when it can't be executed.
        """
        client = self.client
        variables = [f"{key}={value}" for key, value in (env or {}).items()]
        exec_id = client.create_exec(
            self.id,
            command,
            stdin=input is not None,
            env=variables,
            user=user,
            workdir=workdir,
        )

        def kill() -> None:
            with contextlib.suppress(NotRunning, NotFound):
                client.kill_exec(self.id, exec_id)

        try:
            with client.start_exec(self.id, exec_id) as stream:
                output = exchange(stream, input, limit=max_output, timeout=timeout, kill=kill)
            return Result.of(client.wait(self.id, exec_id), output)
        except BaseException:
            cancel.forget()
            with contextlib.suppress(HyperError):
                kill()
            raise

    def put_files(self, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
        """Write files, by absolute path, with the directories they need; running or not."""
        self.client.put_archive(self.id, "/", filesets.packed(files, mode))

    def get_files(
        self,
        *paths: str,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
    ) -> dict[str, bytes]:
        """The contents of regular files, and of those below directories, by absolute path.

        The bounds are for all together, whatever the container says of sizes. Raises
        TooLarge, and NotFound for a path that is not there.
        """
        found: dict[str, bytes] = {}
        for path in paths:
            body, _ = self.client.get_archive(self.id, path)
            found |= filesets.unpacked(
                body,
                path,
                max_bytes=max_bytes - sum(map(len, found.values())),
                max_files=max_files - len(found),
            )
        return found


def create(
    client: Client, image: str, command: Sequence[str], options: Options, *, stdin: bool = False
) -> Container:
    """Create a container, pulling its image when that is missing. See Client.create."""
    from secrets import token_hex

    # A name of ours, so that it can be removed when the answer with its id is lost.
    name = options.get("name") or f"python-{token_hex(6)}"
    wanted = described(image, command, options, name=name, stdin=stdin)
    files = options.get("files", {})
    try:
        container = Container(client, _created(client, image, wanted, options.get("pull", True)))
        if not filesets.fits_specification(files):
            container.put_files(files)
    except BaseException as error:
        unreached = isinstance(error, DaemonUnavailable) and error.missing
        if not options.get("name") and not unreached:
            with contextlib.suppress(HyperError):
                Container(client, name).discard()
        raise
    return container


def _created(client: Client, image: str, wanted: dict[str, Any], pull: bool) -> str:
    try:
        return client.create_pod(wanted)["Containers"][0]
    except NotFound as error:
        if not pull or "image" not in error.message:
            raise
    for _ in client.pull(image, platform=wanted["containers"][0].get("platform", "")):
        pass
    return client.create_pod(wanted)["Containers"][0]
