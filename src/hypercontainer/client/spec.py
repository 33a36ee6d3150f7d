"""Pod specifications of single containers, as `hyper run` makes them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def pod(
    image: str,
    command: Sequence[str] = (),
    *,
    name: str = "",
    hostname: str = "",
    tty: bool = False,
    stdin: bool = False,
    auto_remove: bool = False,
    env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] | None = None,
    workdir: str = "",
    user: str = "",
    labels: Mapping[str, str] | None = None,
    volumes: Sequence[Mapping[str, object]] = (),
    network: str = "",
    read_only: bool = False,
    stop_signal: str = "",
    stop_timeout: int | None = None,
    memory_mib: int | None = None,
    cpus: int | None = None,
    restart: str = "",
    health: Mapping[str, object] | None = None,
    log: Mapping[str, object] | None = None,
    platform: str = "",
    container_keys: Mapping[str, Any] | None = None,
    pod_keys: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod of one container, which has the pod's name (docs/pod-spec.md lists the keys).

    `user` is USER[:GROUP]; `volumes` has objects {path, readOnly, detail?};
    `log` is {type?, config?}; `platform` is OS/ARCHITECTURE; `container_keys` and
    `pod_keys` are further keys of the container and the pod.
    What is empty or None is left out: then the image or hyperd decides.
    """
    container: dict[str, Any] = {
        "image": image,
        "name": name,
        "command": list(command),
        "entrypoint": None if entrypoint is None else list(entrypoint),
        "envs": [{"env": key, "value": value} for key, value in (env or {}).items()],
        "workdir": workdir,
        "user": user,
        "labels": dict(labels or {}),
        "volumes": list(volumes),
        "StopSignal": stop_signal,
        "stopTimeout": stop_timeout,
        "tty": tty,
        "readOnly": read_only,
        "restartPolicy": restart,
        "platform": platform,
        **(container_keys or {}),
        "health": dict(health or {}),
    }
    resource = {"vcpu": cpus, "memory": memory_mib}
    spec: dict[str, Any] = {
        "id": name,
        "hostname": hostname,
        "labels": dict(labels or {}),
        "autoRemove": auto_remove,
        "network": network,
        **(pod_keys or {}),
        "log": dict(log or {}),
        "resource": {key: value for key, value in resource.items() if value is not None},
        "containers": [_without_empty(container) | {"stdin": stdin}],
    }
    return _without_empty(spec)


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item or (item == 0 and item is not False)}
