"""`.dockerignore`: which files of a context are left out.

Source: Docker's documentation, ".dockerignore files": Go's filepath.Match, `**`, and `!`; the
last pattern that matches a path, or a directory above it, counts.
"""

import re
from collections.abc import Sequence

from ..errors import BadRequest


class Ignore:
    """The patterns of a .dockerignore file. Raises BadRequest for a bad one."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            keep = pattern.startswith("!")
            pattern = pattern[1:].strip() if keep else pattern
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise BadRequest(f".dockerignore line {number}: {line!r} leads out of the context")
            if not parts and not keep:
                continue
            try:
                self._rules.append((re.compile(_expression(parts)), keep))
            except re.error:
                raise BadRequest(f".dockerignore line {number}: bad pattern {line!r}") from None

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def has_exceptions(self) -> bool:
        """Whether files below an ignored directory may be kept."""
        return any(keep for _, keep in self._rules)

    def ignores(self, path: str) -> bool:
        """Whether a path, relative to the context's root, is left out."""
        parts = path.split("/")
        prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        ignored = False
        for expression, keep in self._rules:
            if ignored == keep and any(expression.fullmatch(prefix) for prefix in prefixes):
                ignored = not keep
        return ignored


def _expression(parts: Sequence[str]) -> str:
    """A regular expression for a pattern's parts."""
    pieces: list[str] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            pieces.append(".*" if last else "(?:.*/)?")
            continue
        pieces.append(component(part) + ("" if last else "/"))
    return "".join(pieces)


def component(pattern: str) -> str:
    """A regular expression for one part of a path: `*`, `?`, `[a-z]`, `\\` before a character."""
    found: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            found.append(".*" if pattern[at : at + 1] == "*" else "[^/]*")
        elif char == "?":
            found.append("[^/]")
        elif char == "\\" and at < len(pattern):
            found.append(re.escape(pattern[at]))
            at += 1
        elif char == "[" and (end := pattern.find("]", at + 1)) > 0:
            inner = pattern[at:end].replace("[", "\\[")
            found.append(f"[{'^' + inner[1:] if inner[:1] in '!^' else inner}]")
            at = end + 1
        else:
            found.append(re.escape(char))
    return "".join(found)
