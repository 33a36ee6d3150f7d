"""Calls for further processes in containers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .streams import RawStream
    from .transport import Params, Transport


class ExecCalls:
    """The part of Client that is about processes beside a container's first."""

    _http: Transport

    def create_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        detach: bool = False,
        env: Sequence[str] = (),
        user: str = "",
        workdir: str = "",
        vm: bool = False,
    ) -> str:
        """Prepare another process in a running container; the exec's id. `env` has K=V.

        With `vm` it runs in the container's VM outside all containers, as root, with
        the host's static busybox for programs; the VM's file system is at /vm.
        """
        body: dict[str, object] = {
            "command": list(command),
            "tty": tty,
            "stdin": stdin,
            "detach": detach,
        }
        body |= {
            key: value
            for key, value in (
                ("env", list(env)),
                ("user", user),
                ("workdir", workdir),
                ("vm", vm),
            )
            if value
        }
        answer = self._http.request("POST", "/exec/create", {"container": container}, body=body)
        return str(answer.json())

    def start_exec(self, container: str, exec_id: str, *, detach_keys: str = "") -> RawStream:
        """Start it and take its streams. Raises ProgramError when it can't be executed."""
        params: Params = {
            "container": container,
            "exec": exec_id,
            "detachKeys": detach_keys or None,
        }
        return self._http.request("POST", "/exec/start", params, upgrade=True).hijack()

    def start_exec_detached(self, container: str, exec_id: str) -> None:
        """Start it and leave it alone (created with `detach`)."""
        params: Params = {"container": container, "exec": exec_id}
        self._http.request("POST", "/exec/start", params).read()

    def kill_exec(self, container: str, exec_id: str, signal: str | int = "KILL") -> None:
        """Send a signal to a process that was started by an exec. Raises NotRunning."""
        params: Params = {"container": container, "exec": exec_id, "signal": signal}
        self._http.request("POST", "/exec/kill", params).read()
