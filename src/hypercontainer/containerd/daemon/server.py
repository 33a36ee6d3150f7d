"""gRPC's side: which service answers a call, and errors as status codes.

A service is an object with the descriptor of its protobuf service, and a coroutine (or, for a
stream of answers, an asynchronous generator) for each method that it has, named in snake case.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ...errors import BadRequest, NotRunning
from .names import check_identifier
from .status import INTERNAL, as_error, code_of

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 16 << 20
"""Bytes of one message at most, as containerd has it."""
BOUND = 120.0
"""Seconds that a call takes at most, unless its service says otherwise in `bounds`."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.so_reuseport", 0),
    # Clients' pings, however many, are no reason to part with them.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
]
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Bounds = Mapping[str, float | None]
"""Seconds that calls take at most, by method; None for those that wait for what may never come."""
NO_BOUNDS: Bounds = {}

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Service(Protocol):
    """What answers the calls of one protobuf service."""

    descriptor: ServiceDescriptor
    bounds: Bounds


@dataclass(frozen=True)
class Call:
    """In whose name a call is, by its metadata."""

    given_namespace: str
    lease: str

    @property
    def namespace(self) -> str:
        """The namespace. Raises NotRunning without one, BadRequest for a bad one."""
        if not self.given_namespace:
            raise NotRunning("no namespace: send one in the metadata `containerd-namespace`")
        return check_identifier(self.given_namespace, "namespace")


def _call(context: Context) -> Call:
    metadata = dict(context.invocation_metadata() or ())

    def text(key: str) -> str:
        value = metadata.get(key, "")
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    return Call(text("containerd-namespace"), text("containerd-lease"))


class Router(grpc.GenericRpcHandler):
    """Finds the method that answers; what there is not answers UNIMPLEMENTED with its name."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._handlers: dict[str, Handler] = {}
        self._names = set()
        for service in services:
            self._names.add(service.descriptor.full_name)
            for method in service.descriptor.methods:
                path = f"/{service.descriptor.full_name}/{method.name}"
                self._handlers[path] = _handler(service, method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a call."""
        path = handler_call_details.method
        found = self._handlers.get(path)
        if found is not None:
            return found
        service, _, method = path.lstrip("/").rpartition("/")
        what = f"method {method} for service {service}"
        return _unimplemented(f"unknown {what if service in self._names else f'service {service}'}")


def _unimplemented(text: str) -> Handler:
    async def refuse(_: Any, context: Context) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
        yield b""

    return grpc.stream_stream_rpc_method_handler(refuse)


def _handler(service: Service, method: MethodDescriptor) -> Handler:
    path = f"{service.descriptor.full_name}/{method.name}"
    run = getattr(service, _CAPITAL.sub("_", method.name).lower(), None)
    if run is None:
        return _unimplemented(f"{path} is not supported by runv-containerd")
    bound = service.bounds.get(method.name, BOUND)
    # Not by grpc, which logs a traceback for what is no message, and answers UNKNOWN.
    parse = partial(_parse, GetMessageClass(method.input_type))
    write: Callable[[Any], bytes] = GetMessageClass(method.output_type).SerializeToString
    if not method.server_streaming:
        return grpc.unary_unary_rpc_method_handler(_unary(path, run, bound, parse), None, write)
    if not method.client_streaming:
        stream = _streaming(path, lambda data, call: run(parse(data), call))
        return grpc.unary_stream_rpc_method_handler(stream, None, write)
    both = _streaming(path, lambda data, call: run(_parsed(data, parse), call))
    return grpc.stream_stream_rpc_method_handler(both, None, write)


def _parse(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise BadRequest(f"the request is no {kind.DESCRIPTOR.full_name}") from None


async def _parsed(
    stream: AsyncIterator[bytes], parse: Callable[[bytes], Message]
) -> AsyncIterator[Message]:
    async for data in stream:
        yield parse(data)


def _unary(
    path: str,
    run: Callable[[Any, Call], Awaitable[Message]],
    bound: float | None,
    parse: Callable[[bytes], Message],
) -> Callable[[Any, Context], Awaitable[Message]]:
    async def answer(data: bytes, context: Context) -> Message:
        try:
            request = parse(data)
            async with asyncio.timeout(bound):
                return await run(request, _call(context))
        except Exception as error:
            await _abort(path, error, context)

    return answer


def _streaming(
    path: str, run: Callable[[Any, Call], AsyncIterator[Message]]
) -> Callable[[Any, Context], AsyncIterator[Message]]:
    async def answer(data: Any, context: Context) -> AsyncIterator[Message]:
        try:
            async for message in run(data, _call(context)):
                yield message
        except Exception as error:
            await _abort(path, error, context)

    return answer


async def _abort(path: str, error: Exception, context: Context) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    told = as_error(error)
    if told is None:
        log.error("%s failed", path, exc_info=error)
        code, text = INTERNAL, f"internal error: {type(error).__name__}: see the daemon's log"
    else:
        code, text = code_of(told), told.message
        log.debug("%s: %s: %s", path, _CODES[code].name, text)
    await context.abort(_CODES.get(code, grpc.StatusCode.UNKNOWN), text)
    raise AssertionError("abort raises")


def make_server(services: Iterable[Service]) -> grpc.aio.Server:
    """A server of these services, which listens nowhere yet."""
    return grpc.aio.server(handlers=[Router(services)], options=_OPTIONS)
