"""The methods of a service, as its descriptor tells them."""

from typing import Any, NamedTuple

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


class Method(NamedTuple):
    """One method; `streams_requests` and `streams_responses` are always false with ttrpc."""

    name: str
    request: type[Message]
    response: type[Message]
    streams_requests: bool
    streams_responses: bool


def methods_of(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a service (`NAME_pb2.DESCRIPTOR.services_by_name["Task"]`) by name."""
    return {method.name: _method(method) for method in service.methods}


def _method(method: Any) -> Method:
    return Method(
        method.name,
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        bool(method.client_streaming),
        bool(method.server_streaming),
    )
