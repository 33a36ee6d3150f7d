"""Calls for volumes."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .transport import Params, Transport

_PATIENCE = 600.0
"""Seconds for removing what may be large."""


class VolumeCalls:
    """The part of Client that is about volumes."""

    _http: Transport

    def create_volume(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make a volume, without a name an anonymous one; one that is there is returned.

        The driver is local or disk. Raises BadRequest, Conflict (another one has the name).
        """
        body = {"Name": name, "Driver": driver}
        wanted = {**body, "DriverOpts": dict(options or {}), "Labels": dict(labels or {})}
        answer = self._http.request("POST", "/volume/create", body=wanted, timeout=_PATIENCE)
        return dict(answer.json())

    def list_volumes(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[dict[str, Any]]:
        """The volumes that match: name, driver, label, dangling."""
        params = {"filters": json.dumps(filters or {})}
        answer = self._http.request("GET", "/volumes", params).json()
        return [dict(item) for item in answer["Volumes"] or []]

    def inspect_volume(self, name: str) -> dict[str, Any]:
        """Name, Driver, Mountpoint, Labels, Options, CreatedAt, UsedBy. Raises NotFound."""
        return dict(self._http.request("GET", "/volume/inspect", {"name": name}).json())

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume. Raises Conflict when it is in use, NotFound unless `force`."""
        params: Params = {"name": name, "force": force}
        self._http.request("DELETE", "/volume", params, timeout=_PATIENCE).read()

    def prune_volumes(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, everything: bool = False
    ) -> dict[str, Any]:
        """Remove anonymous volumes that no container uses, or all that none does.

        The answer has VolumesDeleted and SpaceReclaimed.
        """
        wanted = {**(filters or {}), "all": ["true" if everything else "false"]}
        params = {"filters": json.dumps(wanted)}
        answer = self._http.request("POST", "/volumes/prune", params, timeout=_PATIENCE)
        return dict(answer.json())
