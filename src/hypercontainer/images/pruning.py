"""Histories of images, which of them nobody needs, and what they take on disk."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..errors import BadRequest
from .model import Image
from .records import Files

FINAL = "final:"
"""How the keys of the last steps of builds begin."""
_FILTERS = ("dangling", "until", "label", "label!")


def history_of(files: Files, image: Image) -> list[dict[str, Any]]:
    """An image's history in Docker's form, newest first. Sizes are of plain layers, in bytes."""
    entries = [e for e in image.config.get("history") or [] if isinstance(e, dict)]
    diff_ids = list(files.index.images[image.id].layers)
    filled = sum(not entry.get("empty_layer") for entry in entries)
    unknown: dict[str, Any] = {}
    entries = [unknown] * (len(diff_ids) - filled) + entries
    found = []
    for entry in entries:
        size = 0
        if not entry.get("empty_layer") and diff_ids:
            size = files.layers[diff_ids.pop(0)].tar_size
        found.append(
            {
                "Id": "<missing>",
                "Created": int(seconds(entry.get("created"))),
                "CreatedBy": str(entry.get("created_by") or ""),
                "Tags": None,
                "Size": size,
                "Comment": str(entry.get("comment") or ""),
            }
        )
    found.reverse()
    if found:
        found[0] |= {"Id": image.id, "Tags": image.repo_tags or None}
    return found


def seconds(moment: object) -> float:
    """Seconds since 1970 of a time of a configuration; 0 for none, or what is no time."""
    try:
        return max(datetime.fromisoformat(str(moment)[:19] + "+00:00").timestamp(), 0.0)
    except ValueError:
        return 0.0


def on_disk(files: Files, diff_ids: Sequence[str]) -> int:
    """Bytes that layers take: their disk images and archives."""
    known = [files.layers[d] for d in dict.fromkeys(diff_ids) if d in files.layers]
    return sum(record.size + record.blob_size for record in known)


def unneeded(
    images: Sequence[Image],
    filters: Mapping[str, Sequence[str]],
    in_use: Callable[[str], str],
    until: float,
) -> list[Image]:
    """The images that a prune with Docker's filters removes, made before `until`.

    Raises BadRequest.
    """
    for key in filters:
        if key not in _FILTERS:
            raise BadRequest(f"filters: {key}: unknown: there are {', '.join(_FILTERS)}")
    dangling = True
    for value in filters.get("dangling", ()):
        if value.lower() not in ("true", "false", "1", "0"):
            raise BadRequest(f"filters: dangling: {value!r} is neither true nor false")
        dangling = value.lower() in ("true", "1")
    return [
        image
        for image in images
        if not in_use(image.id)
        and not (dangling and (image.repo_tags or image.repo_digests))
        and seconds(image.created) <= until
        and all(_labelled(image, wanted) for wanted in filters.get("label", ()))
        and not any(_labelled(image, wanted) for wanted in filters.get("label!", ()))
    ]


def _labelled(image: Image, wanted: str) -> bool:
    labels = (image.config.get("config") or {}).get("Labels") or {}
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def is_between(image: Image) -> bool:
    """Whether an image is only a step of a build: lists leave it out."""
    nameless = not image.repo_tags and not image.repo_digests
    return nameless and bool(image.step) and not image.step.startswith(FINAL)
