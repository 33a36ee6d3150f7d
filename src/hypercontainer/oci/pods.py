"""What the engines of Kubernetes say of a pod in the annotations of its containers.

containerd's CRI plugin and CRI-O make a container for the pod itself first, whose VM the
others join. containerd also says what the pod's containers may use together.
"""

from ..errors import BadRequest
from ..quick.types import Any

_KIND_KEYS = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_POD_KEYS = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")
_QUOTA, _PERIOD, _MEMORY = (
    f"io.kubernetes.cri.sandbox-{name}" for name in ("cpu-quota", "cpu-period", "memory")
)


def is_pod(config: dict[str, Any]) -> bool:
    """Whether the container stands for a pod."""
    return _kind(config) == "sandbox"


def pod_of(config: dict[str, Any]) -> str:
    """The id of the container that stands for the container's pod; "" without a pod."""
    return _first(config, _POD_KEYS) if _kind(config) == "container" else ""


def with_limits(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, for a pod with the limits of all its containers.

    Raises BadRequest naming the annotation.
    """
    if not is_pod(config):
        return config
    linux = config.get("linux") or {}
    resources = linux.get("resources") or {}
    cpu, memory = dict(resources.get("cpu") or {}), dict(resources.get("memory") or {})
    for limits, key, annotation in (
        (cpu, "quota", _QUOTA),
        (cpu, "period", _PERIOD),
        (memory, "limit", _MEMORY),
    ):
        if value := _number(config, annotation):
            limits[key] = value
    return {**config, "linux": {**linux, "resources": {**resources, "cpu": cpu, "memory": memory}}}


def _kind(config: dict[str, Any]) -> str:
    return _first(config, _KIND_KEYS)


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> str:
    annotations = config.get("annotations") or {}
    return str(next((annotations[key] for key in keys if key in annotations), ""))


def _number(config: dict[str, Any], key: str) -> int:
    text = str((config.get("annotations") or {}).get(key) or "0")
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"annotations.{key}: {text!r} is not a whole number") from None
