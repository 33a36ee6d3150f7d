"""What tests with engines need of the machine and of whoever runs them."""

import os
import shutil
from pathlib import Path

import pytest

_RUNV = Path(__file__).parents[2] / ".venv" / "bin" / "runv"


def is_named(config: pytest.Config, directory: str) -> bool:
    """Whether a directory of `tests` is named; a run of all tests leaves out others."""
    return any(f"tests/{directory}" in str(argument) for argument in config.args)


def need(*programs: str) -> None:
    """Skip unless we are root and have these programs."""
    if os.geteuid() != 0:
        pytest.skip("engines need root")
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: `tools/setup engines` does it")


def runv_command() -> Path:
    """The command under test; HYPER_TEST_RUNV names another."""
    return Path(os.environ.get("HYPER_TEST_RUNV", _RUNV))
