"""A container's changes as an image."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ..errors import BadRequest
from ..images import Image
from ..pods import oci
from ..pods.model import Container, Pod, Status, now
from ..pods.service import PodService
from .settings import environment, with_changes

_KEYS = (
    "Cmd Entrypoint Env ExposedPorts Healthcheck Labels OnBuild Shell StopSignal User Volumes"
    " WorkingDir"
).split()


async def commit(
    service: PodService,
    container: Container,
    *,
    name: str = "",
    author: str = "",
    comment: str = "",
    changes: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    pause: bool = True,
) -> Image:
    """Make an image of a container, running (frozen meanwhile if `pause`) or not.

    `changes` are instructions of a Dockerfile, `config` is Docker's Config with what is
    to be otherwise. Raises BadRequest, NotFound, Conflict, NotRunning (paused), VMError.
    """
    pod = service.pod_of(container)
    base = service.images.get(container.image_id)
    wanted = with_changes({**own_config(container), **_given(config or {})}, list(changes))
    created = now()
    entry = {
        "created": created,
        "created_by": " ".join(oci.command_of(container.spec, container.image_config)),
        **({"author": author} if author else {}),
        **({"comment": comment} if comment else {}),
    }
    document = {
        **{k: v for k, v in base.config.items() if k not in ("container", "container_config")},
        "created": created,
        "config": wanted,
        "history": [*(base.config.get("history") or []), entry],
    }
    if author:
        document["author"] = author
    async with (
        service.files.open(pod, container, volumes=False) as files,
        _frozen(pod, container, pause),
    ):
        image = await service.images.make(
            document, base=base.id, layer=files.layer(), names=[name] if name else []
        )
    service.events.container("commit", pod, container)
    return image


def own_config(container: Container) -> dict[str, Any]:
    """The image's configuration with what the container was created with."""
    spec, config = container.spec, dict(container.image_config)
    if spec.entrypoint is not None:
        config["Entrypoint"] = None if spec.entrypoint == ("",) else list(spec.entrypoint)
        config["Cmd"] = list(spec.command or ()) or None
    elif spec.command:
        config["Cmd"] = list(spec.command)
    env = {**environment(config), **dict(spec.env)}
    config["Env"] = [f"{key}={value}" for key, value in env.items()]
    if spec.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **spec.labels}
    for key, value in (
        ("WorkingDir", spec.workdir),
        ("User", spec.user),
        ("StopSignal", spec.stop_signal),
    ):
        if value:
            config[key] = value
    return config


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in config.items():
        if value and key not in _KEYS:
            raise BadRequest(f"{key}: not supported in the body of a commit: only {_KEYS}")
    return {key: value for key, value in config.items() if value}


@asynccontextmanager
async def _frozen(pod: Pod, container: Container, pause: bool) -> AsyncIterator[None]:
    client = pod.client
    if not pause or client is None or container.state.status != Status.RUNNING:
        yield
        return
    await client.freeze(container.id, True)
    try:
        yield
    finally:
        if container.live:
            await client.freeze(container.id, False)
