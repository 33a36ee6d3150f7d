"""gRPC's health service (grpc.health.v1)."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from ...errors import NotFound
from ..api import health_pb2 as api
from .server import Bounds, Call, Service

_BOUNDS: Bounds = {"Watch": None}


class Health:
    """gRPC's own question whether a server works."""

    descriptor = api.DESCRIPTOR.services_by_name["Health"]
    bounds = _BOUNDS

    def __init__(self, services: Iterable[Service]) -> None:
        self._names = {"", *(service.descriptor.full_name for service in services)}

    async def check(self, request: api.HealthCheckRequest, _: Call) -> api.HealthCheckResponse:
        """Raises NotFound for a service that is not here."""
        if request.service not in self._names:
            raise NotFound(f"unknown service {request.service[:200]}")
        return _health("SERVING")

    async def watch(
        self, request: api.HealthCheckRequest, _: Call
    ) -> AsyncIterator[api.HealthCheckResponse]:
        """The same, told until the client goes: the stream's end is the end of the daemon."""
        yield _health("SERVING" if request.service in self._names else "SERVICE_UNKNOWN")
        await asyncio.get_running_loop().create_future()


def _health(status: str) -> api.HealthCheckResponse:
    return api.HealthCheckResponse(status=status)
