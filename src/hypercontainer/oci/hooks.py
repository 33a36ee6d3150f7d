"""Hooks of an OCI configuration (runtime-spec 1.1, config.md "POSIX-platform Hooks")."""

import os

from ..errors import BadRequest, HyperError, VMError
from ..quick import json
from ..quick.types import Any
from ..sandbox.calls import call

_DEFAULT_BOUND = 120.0
KINDS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


def check(config: dict[str, Any]) -> None:
    """Raises BadRequest naming the key of a malformed hook."""
    hooks = config.get("hooks") or {}
    if not isinstance(hooks, dict):
        raise BadRequest("hooks: an object is expected")
    for kind, entries in hooks.items():
        if kind not in KINDS:
            raise BadRequest(f"hooks: unknown kind {kind!r}")
        for index, hook in enumerate(entries or []):
            path = hook.get("path") if isinstance(hook, dict) else None
            if not isinstance(path, str) or not path.startswith("/"):
                raise BadRequest(f"hooks.{kind}[{index}].path: an absolute path is needed")
            timeout = hook.get("timeout")
            if timeout is not None and (not isinstance(timeout, int) or timeout <= 0):
                raise BadRequest(f"hooks.{kind}[{index}].timeout: {timeout!r} is not positive")


def run(config: dict[str, Any], kind: str, state: dict[str, Any]) -> None:
    """Run the hooks of a kind on the host, in order, each with the state on stdin.

    Raises HyperError with what a failing hook said.
    """
    for index, hook in enumerate((config.get("hooks") or {}).get(kind) or []):
        _run_one(hook, f"hook #{index} of {kind}", json.dumps(state))


def run_in_container(
    hooks: dict[str, Any], sandbox: str, guest_id: str, state: dict[str, Any]
) -> None:
    """Run the startContainer hooks in a created container, as its root, before its program.

    Raises HyperError with what a failing hook said; the container is killed then.
    """
    for index, hook in enumerate((hooks or {}).get("startContainer") or []):
        try:
            _run_in_guest(hook, f"hook #{index} of startContainer", sandbox, guest_id, state)
        except HyperError:
            request = {"container": guest_id, "process": "init", "signal": 9, "all": True}
            call(sandbox, "signal", request)
            raise


def _run_in_guest(
    hook: dict[str, Any], what: str, sandbox: str, guest_id: str, state: dict[str, Any]
) -> None:
    import tempfile

    path, name = hook["path"], f"hook-{os.urandom(8).hex()}"
    process = {
        "args": [path, *(hook.get("args") or [path])[1:]],
        "env": hook.get("env") or [],
        "cwd": "/",
    }
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(state).encode())
        given.seek(0)
        request = {
            "container": guest_id,
            "process": name,
            "spec": process,
            "stdin": True,
            "fds": ["stdin", "stdout", "stderr"],
        }
        call(sandbox, "exec", request, fds=[given.fileno(), said.fileno(), said.fileno()])
        bound = float(hook.get("timeout") or _DEFAULT_BOUND)
        try:
            ended = call(sandbox, "wait", {"container": guest_id, "process": name}, timeout=bound)
        except VMError:
            raise HyperError(f"error running {what}: {path}: no end in {bound:g} s") from None
        said.seek(0)
        text = said.read(4096).decode(errors="replace").strip()
    if ended["code"] != 0:
        how = f"exit status {ended['code']}"
        if ended["signal"]:
            import signal

            how = f"signal: {(signal.strsignal(ended['signal']) or '?').lower()}"
        raise HyperError(f"error running {what}: {how}, output: {text}")


def _run_one(hook: dict[str, Any], what: str, state: str) -> None:
    import subprocess

    path = hook["path"]
    bound = float(hook.get("timeout") or _DEFAULT_BOUND)
    try:
        done = subprocess.run(
            hook.get("args") or [path],
            executable=path,
            env=_environment(hook),
            input=state,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=bound,
        )
    except subprocess.TimeoutExpired:
        raise HyperError(f"error running {what}: {path}: no end in {bound:g} s") from None
    except OSError as error:
        raise HyperError(f"error running {what}: {path}: {error.strerror}") from None
    if done.returncode != 0:
        raise HyperError(
            f"error running {what}: exit status {done.returncode},"
            f" stdout: {done.stdout.strip()}, stderr: {done.stderr.strip()}"
        )


def _environment(hook: dict[str, Any]) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in hook.get("env") or [])
    return {name: value for name, _, value in pairs} if hook.get("env") else dict(os.environ)
