"""Calling runv as engines do: a bundle, a root directory, one process a command."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.engine import ACCEL, SLOWNESS
from tests.e2e.rootfs import make_config

COMMAND = str(Path(sys.executable).with_name("runv"))
BOUND = 90.0 * SLOWNESS
_PR_SET_CHILD_SUBREAPER = 36

Done = subprocess.CompletedProcess[bytes]


class Runv:
    """runv with a root of its own, and bundles on one root file system."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.rootfs = rootfs
        self.flags = ["--root", str(self.root), "--driver", ACCEL]
        self._count = 0

    def __call__(self, *args: str, stdin: bytes | None = None, check: bool = True) -> Done:
        """Run a command to its end; without `stdin` it gets none."""
        done = subprocess.run(
            [COMMAND, *self.flags, *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=BOUND,
        )
        if check:
            assert done.returncode == 0, (args, done)
        return done

    def quiet(self, *args: str) -> None:
        """A command whose streams stay with what it leaves behind, such as `create`."""
        with open(os.devnull, "r+b") as null:
            done = subprocess.run(
                [COMMAND, *self.flags, *args],
                stdin=null,
                stdout=null,
                stderr=null,
                timeout=BOUND,
            )
        assert done.returncode == 0, args

    def bundle(self, *args: str, config: dict[str, Any] | None = None, **process: Any) -> str:
        """A new bundle that runs `args`, or has `config`."""
        self._count += 1
        path = self.directory / f"bundle{self._count}"
        path.mkdir()
        config = config or make_config(*args, **process)
        config["root"] = {"path": str(self.rootfs)}
        (path / "config.json").write_text(json.dumps(config))
        return str(path)

    def run(self, *args: str, cid: str = "c", stdin: bytes | None = None, **process: Any) -> Done:
        """`runv run` of such a bundle, whatever it exits with."""
        bundle = self.bundle(*args, **process)
        return self("run", "--bundle", bundle, cid, stdin=stdin, check=False)

    def create(self, *args: str, cid: str = "c", flags: tuple[str, ...] = (), **keys: Any) -> str:
        """`runv create` of such a bundle; returns the id."""
        self.quiet("create", *flags, "--bundle", self.bundle(*args, **keys), cid)
        return cid

    @contextmanager
    def running(self, *args: str, cid: str = "c") -> Iterator[str]:
        """A container that runs `args` (default: sleeps) while the body does."""
        self.create(*(args or ("sleep", "3600")), cid=cid)
        try:
            self("start", cid)
            yield cid
        finally:
            self("delete", "--force", cid)

    def state(self, cid: str = "c") -> dict[str, Any]:
        """What `runv state` says."""
        found: dict[str, Any] = json.loads(self("state", cid).stdout)
        return found

    def sandbox(self, cid: str = "c") -> dict[str, Any]:
        """The state file of the container's sandbox."""
        path = self.root / cid / "sandbox" / "state.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def until(condition: Callable[[], bool], seconds: float = BOUND) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def subreaper() -> Iterator[None]:
    """Become the parent of what commands leave behind, as engines' shims do."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def exit_code(pid: int) -> int:
    """Wait for a process that a command left behind."""
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    raise AssertionError(f"process {pid} did not end")
