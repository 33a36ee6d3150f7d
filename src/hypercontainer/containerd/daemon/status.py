"""gRPC's status codes of our errors.

Source: gRPC's "Status codes and their use"; which of them containerd's clients expect of what is
in its Go package errdefs.
"""

import sqlite3

from ...errors import (
    BadRequest,
    Conflict,
    HyperError,
    NoSpace,
    NotFound,
    NotRunning,
    NotSupported,
    ReadOnly,
    Timeout,
    is_full,
)

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNKNOWN = 2


class Unavailable(HyperError):
    """Somebody else is at it: trying again later may work."""

    code = "unavailable"
    status = 503


class OutOfRange(HyperError):
    """An offset beyond what is there."""

    code = "out_of_range"
    status = 416


class Remote(HyperError):
    """What a shim answered, with its own status code."""

    def __init__(self, message: str, grpc_code: int) -> None:
        super().__init__(message)
        self.grpc_code = grpc_code


_CODES: dict[type[HyperError], int] = {
    BadRequest: INVALID_ARGUMENT,
    NotFound: NOT_FOUND,
    Conflict: ALREADY_EXISTS,
    NotRunning: FAILED_PRECONDITION,
    NotSupported: UNIMPLEMENTED,
    Timeout: DEADLINE_EXCEEDED,
    NoSpace: RESOURCE_EXHAUSTED,
    ReadOnly: PERMISSION_DENIED,
    Unavailable: UNAVAILABLE,
    OutOfRange: OUT_OF_RANGE,
}


def code_of(error: HyperError) -> int:
    """The status code by which a client learns of an error."""
    if isinstance(error, Remote):
        return error.grpc_code
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), UNKNOWN)


def as_error(error: Exception) -> HyperError | None:
    """The error that a system call's or the database's failure is for people; None for others."""
    if isinstance(error, HyperError):
        return error
    if isinstance(error, TimeoutError):
        return Timeout("not done in time: see what keeps this host busy, and try again")
    if isinstance(error, sqlite3.Error):
        return HyperError(f"read the database: {error}")
    if isinstance(error, OSError) and is_full(error):
        return NoSpace(f"no space left for {error.filename or 'what is written'}: free some")
    if isinstance(error, OSError):
        return HyperError(f"{error.filename or 'a system call'}: {error.strerror or error}")
    return None
