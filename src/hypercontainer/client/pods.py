"""Calls for pods as a whole, besides those of Client itself."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .transport import Params, Transport
    from .types import PodSummary


class PodCalls:
    """The part of Client that is about pods."""

    _http: Transport

    def list_pods(self) -> list[PodSummary]:
        """All pods, with their states and the VMs of those that run."""
        answer = self._http.request("GET", "/list", {"item": "pod"}, timeout=60.0).json()
        found: list[PodSummary] = []
        for line in answer.get("podData") or []:
            pod, _, vm, state = str(line).split(":")
            found.append({"ID": pod, "State": state, "VM": vm})
        return found

    def kill_pod(self, pod: str, signal: str | int = "KILL") -> None:
        """Signal the first process of each container of a pod. Raises NotRunning."""
        params: Params = {"podId": pod, "signal": signal}
        self._http.request("POST", "/pod/kill", params, timeout=60.0).read()

    def label_pod(self, pod: str, labels: Mapping[str, str], *, override: bool = False) -> None:
        """Give a pod more labels. Raises Conflict for what has another value, unless `override`."""
        params: Params = {"podId": pod, "labels": json.dumps(dict(labels)), "override": override}
        self._http.request("POST", "/pod/labels", params, timeout=60.0).read()
