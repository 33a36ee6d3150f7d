"""Calls for containers' files."""

from __future__ import annotations

import base64
import json

from ..errors import HyperError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from .transport import Response, Transport

IDLE_TIMEOUT = 600.0
"""Seconds without a byte."""
_STAT = "X-Docker-Container-Path-Stat"
_BLOCK = 1 << 16


class BodyFile:
    """The body of an answer as a file to read."""

    def __init__(self, response: Response) -> None:
        self._chunks: Iterator[bytes] = response.chunks()
        self._data = b""
        self._response = response

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end. Raises HyperError when the body is cut off."""
        parts = []
        while size != 0:
            if not self._data:
                self._data = next(self._chunks, b"")
                if not self._data:
                    break
            taken = self._data if size < 0 else self._data[:size]
            self._data = self._data[len(taken) :]
            parts.append(taken)
            size -= len(taken) if size > 0 else 0
        return b"".join(parts)

    def pieces(self) -> Iterator[bytes]:
        """The rest, piece by piece."""
        while data := self.read(_BLOCK):
            yield data

    def close(self) -> None:
        """Leave the rest."""
        self._response.close()


class FileCalls:
    """The part of Client that is about containers' files."""

    _http: Transport

    def stat_path(self, container: str, path: str) -> dict[str, Any]:
        """name, size, mode (Go's FileMode), mtime, linkTarget of a path. Raises NotFound."""
        params = {"container": container, "path": path}
        try:
            response = self._http.request(
                "HEAD", "/container/archive", params, timeout=IDLE_TIMEOUT
            )
        except NotFound:
            raise NotFound(f"{container}:{path}: no such container or file") from None
        response.read()
        return _decoded(response)

    def get_archive(self, container: str, path: str) -> tuple[BodyFile, dict[str, Any]]:
        """A tar archive of a file or directory of a container, and what `stat_path` gives.

        Raises NotFound. The archive comes from a container: it is not to be trusted.
        """
        params = {"container": container, "path": path}
        response = self._http.request("GET", "/container/archive", params, timeout=IDLE_TIMEOUT)
        return BodyFile(response), _decoded(response)

    def put_archive(self, container: str, path: str, archive: IO[bytes]) -> None:
        """Unpack a tar archive in a directory of a container. Raises NotFound, BadRequest."""
        params = {"container": container, "path": path}
        self._http.request(
            "PUT", "/container/archive", params, upload=archive, timeout=IDLE_TIMEOUT
        ).read()

    def export(self, container: str) -> BodyFile:
        """A tar archive of a container's root file system."""
        params = {"container": container}
        return BodyFile(
            self._http.request("GET", "/container/export", params, timeout=IDLE_TIMEOUT)
        )

    def changes(self, container: str) -> list[dict[str, Any]]:
        """What differs from the image: Path, and Kind 0 (changed), 1 (added) or 2 (deleted)."""
        params = {"container": container}
        answer = self._http.request("GET", "/container/changes", params, timeout=IDLE_TIMEOUT)
        return [dict(item) for item in answer.json() or []]


def _decoded(response: Response) -> dict[str, Any]:
    try:
        stat = json.loads(base64.b64decode(response.header(_STAT), validate=True))
    except ValueError:
        stat = None
    if not isinstance(stat, dict):
        raise HyperError(f"hyperd's answer lacks a valid header {_STAT}")
    return stat
