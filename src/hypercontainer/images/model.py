"""What the store hands out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Layer:
    """A read-only disk image that holds one layer; `size` is its bytes on disk."""

    diff_id: str
    path: Path
    fstype: str
    size: int


@dataclass(frozen=True)
class Image:
    """An image in the store.

    `layers` are those to stack, bottom first: layers that are empty, that a later one hides
    whole, or that come again further up, are left out. `step` is the key of the build's
    step that made it.
    """

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    config: dict[str, Any]
    created: str
    size: int
    layers: list[Layer]
    step: str = ""
