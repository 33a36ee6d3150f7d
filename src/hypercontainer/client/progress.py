"""Lines of progress."""

from __future__ import annotations

from ..errors import from_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .types import Progress


def checked(lines: Iterator[Any]) -> Iterator[Progress]:
    """The lines; raises the error that one of them carries."""
    for line in lines:
        if isinstance(line, dict) and "error" in line:
            detail = line.get("errorDetail")
            if not isinstance(detail, dict):
                detail = {}
            raise from_wire({"message": line["error"], **detail})
        yield line
