"""Starting hyperd when a command needs it and none runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from ..client.transport import DEFAULT_HOST, Address, DaemonUnavailable
from ..errors import HyperError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

START_BOUND = 125.0
"""Seconds, a little more than hyperd gives itself."""
_RETRY_BOUND = 5.0
_BAD_CONFIGURATION = 2


def start_hyperd(address: Address, note: Callable[[str], None]) -> None:
    """Start hyperd in the background, listening at `address`; returns when it answers.

    `note` is told once. Raises HyperError with hyperd's own words when it does not come up.
    """
    argv = [sys.executable, "-m", "hypercontainer.daemon.main"]
    if address.text != DEFAULT_HOST:
        argv += ["--socket", address.path]
    note("hyperd is not running: starting it")
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise HyperError(f"cannot start hyperd: {error}") from error
        try:
            code = process.wait(START_BOUND)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise HyperError(f"hyperd was not ready in {START_BOUND:.0f} s") from None
        words.seek(0)
        said = words.read().decode(errors="replace")
    _await_answer(address, code, said)


def _await_answer(address: Address, code: int, said: str) -> None:
    """Another `hyper` may have started it at the same time: then ours failed, and all is well."""
    deadline = time.monotonic() + _RETRY_BOUND
    while True:
        try:
            address.connect().close()
            return
        except DaemonUnavailable as error:
            hopeless = code == _BAD_CONFIGURATION or not error.missing
            if hopeless or time.monotonic() > deadline:
                break
        time.sleep(0.05)
    lines = [line for line in said.splitlines() if line.strip()]
    why = lines[-1].removeprefix("hyperd: ") if lines else f"it ended with exit code {code}"
    raise HyperError(f"hyperd did not start: {why}", detail=said) from None
