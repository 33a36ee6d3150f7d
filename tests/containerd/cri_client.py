"""A client of the CRI (runtime.v1) made of the protocol buffers that containerd carries."""

from pathlib import Path
from typing import Any

import grpc

from tests.containerd import protobufs

PACKAGE = "runtime.v1"
# What kubelet waits for a pod, too.
_BOUND = 240.0


class CRIClient:
    """Calls methods of RuntimeService and ImageService by their names."""

    def __init__(self, program: Path, address: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{address}")
        self._messages = protobufs.messages(program, PACKAGE)
        self._enumerations = protobufs.enumerations(program, PACKAGE)
        self._methods: dict[str, tuple[Any, Any]] = {}
        for service in protobufs.services(program, PACKAGE).values():
            for method in service.methods:
                request = self._messages[method.input_type.name]
                answer = self._messages[method.output_type.name]
                make = (
                    self._channel.unary_stream
                    if method.server_streaming
                    else self._channel.unary_unary
                )
                call = make(
                    f"/{service.full_name}/{method.name}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=answer.FromString,
                )
                self._methods[method.name] = (request, call)

    def __call__(self, method: str, *, bound: float = _BOUND, **fields: Any) -> Any:
        """The answer to a call; messages in its fields are dictionaries.

        `bound` is in seconds. Raises grpc.RpcError.
        """
        request, call = self._methods[method]
        return call(request(**fields), timeout=bound)

    def word(self, enumeration: str, number: int) -> str:
        """The name of a value of an enumeration, such as CONTAINER_EXITED."""
        return str(self._enumerations[enumeration].values_by_number[number].name)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
