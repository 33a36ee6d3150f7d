"""The errors that reach people: one lower-case line that says what failed, why, and the remedy."""

import errno


class HyperError(Exception):
    """Base of all errors that are shown to people.

    `code` is a word for programs (`not_found`, `conflict`, …); `status` is the
    HTTP status of the REST API; `exit_code` is what a command line exits with.
    """

    code = "internal"
    status = 500
    exit_code = 125

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class BadRequest(HyperError):
    """The input is wrong; nothing was touched."""

    code = "bad_request"
    status = 400


class NotFound(HyperError):
    """The named thing does not exist."""

    code = "not_found"
    status = 404


class Conflict(HyperError):
    """The thing exists already or is in use."""

    code = "conflict"
    status = 409


class NotRunning(HyperError):
    """The state does not allow the operation."""

    code = "bad_state"
    status = 412


class NotSupported(HyperError):
    """Known, but not supported here; says so instead of ignoring it."""

    code = "not_supported"
    status = 501


class Timeout(HyperError):
    """A bound on a wait was reached."""

    code = "timeout"
    status = 504


class NoSpace(HyperError):
    """The disk is full."""

    code = "no_space"
    status = 507


class ReadOnly(HyperError):
    """The file system can't be written to."""

    code = "read_only"
    status = 403


class ProgramError(HyperError):
    """The container's program can't be executed: exit code 127 (not found) or 126."""

    code = "program"
    status = 400

    def __init__(self, message: str, exit_code: int, *, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.exit_code = exit_code


class VMError(HyperError):
    """The virtual machine did not start, or died; the message ends with the reason."""

    code = "vm"
    status = 500


def is_full(error: OSError) -> bool:
    """Whether a disk, or somebody's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_error(error: OSError, what: str) -> HyperError:
    """The failure of `what` on a disk below hyperd's Root."""
    if is_full(error):
        return NoSpace(f"{what}: {error.strerror}: free space, or set Root to a larger disk")
    return HyperError(f"{what}: {error.strerror or error}")


_BY_CODE: dict[str, type[HyperError]] = {
    cls.code: cls
    for cls in (
        *(BadRequest, NotFound, Conflict, NotRunning, NotSupported, Timeout, NoSpace, ReadOnly),
        VMError,
    )
}


def to_wire(error: HyperError) -> dict[str, object]:
    """The JSON form of an error, as sandbox sockets and the REST API carry it."""
    wire: dict[str, object] = {"code": error.code, "message": error.message}
    if error.detail:
        wire["detail"] = error.detail
    if error.exit_code != 125:
        wire["exit_code"] = error.exit_code
    return wire


def from_wire(wire: dict[str, object]) -> HyperError:
    """The error of a JSON form; an unknown code gives a plain `HyperError`."""
    message, detail = str(wire.get("message", "unknown error")), str(wire.get("detail", ""))
    exit_code = wire.get("exit_code", 125)
    if wire.get("code") == ProgramError.code:
        return ProgramError(
            message, exit_code if isinstance(exit_code, int) else 125, detail=detail
        )
    return _BY_CODE.get(str(wire.get("code")), HyperError)(message, detail=detail)
