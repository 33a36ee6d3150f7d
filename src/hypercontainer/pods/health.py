"""Examining running containers, with Docker's rules (HEALTHCHECK of its Dockerfile reference)."""

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from typing import Any

from ..errors import HyperError
from ..sandbox import SandboxClient
from . import oci
from .events import Events
from .model import Container, Health, Pod, Status, now
from .names import random_id
from .spec_health import HealthSpec, image_health

log = logging.getLogger(__name__)

_OUTPUT = 4096
_KEPT = 5
_TAIL_BOUND = 5.0


def health_spec(container: Container) -> HealthSpec | None:
    """How it is examined: as its user says, else as its image says; None: not at all."""
    spec = container.spec.health or image_health(container.image_config)
    return spec if spec is not None and spec.test else None


class HealthChecks:
    """The examinations of all running containers."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, pod: Pod, container: Container, client: SandboxClient) -> None:
        """Examine a container from now on, until `end`."""
        self.end(container)
        spec = health_spec(container)
        container.health = None
        if spec is None:
            container.state.health = ""
            return
        container.health = Health(spec, deque(maxlen=_KEPT))
        if container.state.health in ("healthy", "unhealthy"):
            container.health.known.set()
        else:
            container.state.health = "starting"
        self._tasks[container.id] = asyncio.create_task(self._examine(pod, container, client))

    def end(self, container: Container) -> None:
        """Stop to examine it."""
        if (task := self._tasks.pop(container.id, None)) is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop to examine."""
        for task in self._tasks.values():
            task.cancel()

    async def _examine(self, pod: Pod, container: Container, client: SandboxClient) -> None:
        health = container.health
        assert health is not None
        begun = asyncio.get_running_loop().time()
        for _ in itertools.count():
            await asyncio.sleep(health.spec.interval)
            if container.state.status != Status.RUNNING:
                continue
            try:
                result = await _once(pod, container, client, health.spec)
            except HyperError as error:
                result = {"Start": now(), "End": now(), "ExitCode": -1, "Output": error.message}
            if container.state.status != Status.RUNNING:
                continue
            early = asyncio.get_running_loop().time() - begun < health.spec.start_period
            self._note(pod, container, health, result, early=early)

    def _note(
        self, pod: Pod, container: Container, health: Health, result: dict[str, Any], *, early: bool
    ) -> None:
        """Draw the conclusion of one examination."""
        health.log.append(result)
        before = container.state.health
        if result["ExitCode"] == 0:
            health.failures = 0
            container.state.health = "healthy"
        elif not (early and before == "starting"):
            health.failures += 1
            if health.failures >= health.spec.retries:
                container.state.health = "unhealthy"
        if container.state.health != before:
            health.known.set()
            self._events.container(f"health_status: {container.state.health}", pod, container)


async def _once(
    pod: Pod, container: Container, client: SandboxClient, spec: HealthSpec
) -> dict[str, Any]:
    """Run the test once; a result in the form of Docker's State.Health.Log."""
    process = oci.process_of(container.spec, container.image_config, pod.hostname)
    process |= {"args": list(spec.test), "terminal": True}
    name, begun = random_id("health"), now()
    try:
        async with asyncio.timeout(spec.timeout):
            await client.exec(container.id, name, process)
            output = await _output(client, container.id, name)
            code = (await client.wait(container.id, name)).code
    except TimeoutError:
        with contextlib.suppress(HyperError, TimeoutError):
            async with asyncio.timeout(_TAIL_BOUND):
                await client.signal(container.id, name, 9)
        code, output = -1, f"the health check did not end within {spec.timeout:g} s"
    return {"Start": begun, "End": now(), "ExitCode": code, "Output": output}


async def _output(client: SandboxClient, cid: str, process: str) -> str:
    """The first 4 KiB that a process writes to its terminal; the rest is read and dropped."""
    reader, writer = await client.attach(cid, process, stdin=False)
    kept = b""
    try:
        while data := await reader.read(1 << 16):
            kept = (kept + data)[:_OUTPUT]
    finally:
        writer.close()
    return kept.decode(errors="replace").replace("\r\n", "\n")
