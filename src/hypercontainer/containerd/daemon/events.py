"""The service of events: `since==TIME` in a filter asks for those that were, too."""

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from ..api import events_service_pb2 as api
from ..api.events_ttrpc_pb2 import Envelope
from .exchange import Exchange, wanted
from .server import Bounds, Call

_BOUNDS: Bounds = {"Subscribe": None}


class Events:
    """What happens, and what happened."""

    descriptor = api.DESCRIPTOR.services_by_name["Events"]
    bounds = _BOUNDS

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def publish(self, request: api.PublishRequest, call: Call) -> Empty:
        """Tell of something. Raises BadRequest."""
        self._exchange.pass_on(call.namespace, request.topic, request.event)
        return Empty()

    async def forward(self, request: api.ForwardRequest, _: Call) -> Empty:
        """Tell of something that happened elsewhere. Raises BadRequest."""
        self._exchange.forward(request.envelope)
        return Empty()

    async def subscribe(self, request: api.SubscribeRequest, _: Call) -> AsyncIterator[Envelope]:
        """All that filters let through, of all namespaces. Raises BadRequest."""
        async for envelope in self._exchange.stream(wanted(request.filters)):
            yield envelope
