"""These tests are for machines that `make lab` and its like start."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of labs that this machine is not."""
    for item in items:
        lab = item.path.stem.removeprefix("test_")
        if item.path.parent.name == "lab" and os.environ.get("HYPER_LAB") != lab:
            item.add_marker(pytest.mark.skip(reason=f"not in the lab {lab}: `make lab`"))
