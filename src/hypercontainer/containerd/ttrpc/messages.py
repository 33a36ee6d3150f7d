"""What a client of ttrpc sends, and what it makes of the answer (ttrpc's protocol, Request and
Response)."""

from typing import TypeVar

from google.protobuf.message import Message

from ..api import ttrpc_pb2
from .status import CallError, Code

M = TypeVar("M", bound=Message)


def request_of(service: str, method: str, request: Message, timeout: float | None) -> bytes:
    """A call, with the seconds that it may take."""
    return ttrpc_pb2.Request(
        service=service,
        method=method,
        payload=request.SerializeToString(),
        timeout_nano=int(timeout * 1e9) if timeout else 0,
    ).SerializeToString()


def result_of(response: ttrpc_pb2.Response, answer: type[M]) -> M:
    """What was answered. Raises CallError with the server's code, DecodeError."""
    if response.status.code != Code.OK:
        raise CallError(response.status.code, response.status.message)
    return answer.FromString(response.payload)
