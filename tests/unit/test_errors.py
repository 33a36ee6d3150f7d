"""Errors keep their class, texts and exit code on their way over a socket."""

import pytest

from hypercontainer import errors
from hypercontainer.errors import HyperError, ProgramError, from_wire, to_wire

CLASSES = [
    errors.BadRequest,
    errors.NotFound,
    errors.Conflict,
    errors.NotRunning,
    errors.NotSupported,
    errors.Timeout,
    errors.NoSpace,
    errors.VMError,
    HyperError,
]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("detail", ["", "console:\nline"])
def test_there_and_back(kind: type[HyperError], detail: str) -> None:
    error = kind("what failed: why", detail=detail)
    back = from_wire(to_wire(error))
    assert type(back) is kind
    assert (back.message, back.detail, back.exit_code) == ("what failed: why", detail, 125)
    assert str(back) == back.message


@pytest.mark.parametrize("exit_code", [126, 127])
def test_a_program_error_keeps_its_exit_code(exit_code: int) -> None:
    back = from_wire(to_wire(ProgramError("exec: x", exit_code)))
    assert type(back) is ProgramError
    assert back.exit_code == exit_code


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"code": None, "message": None},
        {"code": 5, "message": 6},
        {"code": "a new word", "message": "x"},
        {"code": "program", "message": "x", "exit_code": "127"},
        {"code": ["vm"], "message": {"a": 1}, "detail": 3},
    ],
)
def test_what_another_version_sends_is_an_error_all_the_same(wire: dict[str, object]) -> None:
    assert isinstance(from_wire(wire), HyperError)


def test_codes_and_statuses_are_one_to_one() -> None:
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)
    for kind in CLASSES:
        assert 400 <= kind.status < 600
