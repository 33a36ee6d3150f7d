"""Calls for snapshots and forks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .transport import Params, Transport
    from .types import CreatedPod

_PATIENCE = 600.0
"""Seconds: memory and disks may be large, and copies many."""


class SnapshotCalls:
    """The part of Client that is about pods saved with what runs in them, and copies of them.

    `wanted` is what a copy has of its own: `id` (its name), `hostname`, `labels`,
    `autoRemove`, `network`, `networks`, `portmappings` of a pod specification.
    """

    _http: Transport

    def create_snapshot(self, container: str, name: str) -> dict[str, Any]:
        """Save a running container's pod under a name; it goes on, after `PausedMs`.

        Raises NotRunning, Conflict (the name), NotSupported (a volume), NoSpace.
        """
        params = {"container": container, "name": name}
        answer = self._http.request("POST", "/snapshot/create", params, timeout=_PATIENCE)
        return dict(answer.json())

    def list_snapshots(self) -> list[dict[str, Any]]:
        """All snapshots: Name, Created, Pod, Containers, Memory, Size …"""
        return [dict(item) for item in self._http.request("GET", "/snapshots").json()]

    def inspect_snapshot(self, name: str) -> dict[str, Any]:
        """Everything about a snapshot. Raises NotFound, Conflict (damaged)."""
        return dict(self._http.request("GET", "/snapshot/inspect", {"name": name}).json())

    def remove_snapshot(self, name: str) -> None:
        """Remove a snapshot; copies of it go on. Raises NotFound, Conflict."""
        self._http.request("DELETE", "/snapshot", {"name": name}, timeout=_PATIENCE).read()

    def run_snapshot(self, name: str, wanted: Mapping[str, Any] | None = None) -> CreatedPod:
        """Continue a snapshot as a new pod, any number of times.

        Raises NotFound, Conflict (damaged, or of another machine), NoSpace.
        """
        body = dict(wanted or {})
        answer = self._http.request(
            "POST", "/snapshot/run", {"name": name}, body=body, timeout=_PATIENCE
        )
        created: CreatedPod = answer.json()
        return created

    def fork_container(
        self, container: str, count: int = 1, wanted: Mapping[str, Any] | None = None
    ) -> list[CreatedPod]:
        """Make copies of a running container's pod: all of them, or none; it goes on.

        Raises NotRunning, NotSupported, NoSpace.
        """
        params: Params = {"container": container, "count": count}
        body = dict(wanted or {})
        answer = self._http.request("POST", "/container/fork", params, body=body, timeout=_PATIENCE)
        created: list[CreatedPod] = answer.json()
        return created
