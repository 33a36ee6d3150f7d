"""Guests of arm64, in QEMU's emulation. Run by `make test-arm64`; other runs leave them out."""

from pathlib import Path

import pytest

from tests.e2e.conftest import hyperd
from tests.engines.needs import is_named

__all__ = ["hyperd"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only for those who name this directory."""
    return None if is_named(config, "arm64") else True
