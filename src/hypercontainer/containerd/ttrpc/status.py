"""How a call ended (google.rpc.Status and its codes, code.proto), and our errors as that."""

from enum import IntEnum

from ...errors import HyperError


class Code(IntEnum):
    """The codes that are used here, by their names in code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


_CODES = {
    "bad_request": Code.INVALID_ARGUMENT,
    "not_found": Code.NOT_FOUND,
    "conflict": Code.ALREADY_EXISTS,
    "bad_state": Code.FAILED_PRECONDITION,
    "not_supported": Code.UNIMPLEMENTED,
    "timeout": Code.DEADLINE_EXCEEDED,
    "no_space": Code.RESOURCE_EXHAUSTED,
}


class CallError(HyperError):
    """A call that ended with another code than OK, or without an answer (UNAVAILABLE)."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


def code_of(error: HyperError) -> int:
    """The code by which containerd's clients know one of our errors."""
    if isinstance(error, CallError):
        return error.status_code
    return _CODES.get(error.code, Code.UNKNOWN)
