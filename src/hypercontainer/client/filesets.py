"""Files as a mapping of paths to contents, and the archives that carry them."""

from __future__ import annotations

import io
import posixpath
import tarfile

from ..errors import BadRequest, HyperError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from .files import BodyFile

# What hyperd takes within a specification: see docs/pod-spec.md.
_INJECTED_FILE = 1 << 20
_INJECTED_FILES = 2 << 20
_HEADERS = 8 << 10  # for a file: names and attributes


class TooLarge(HyperError):
    """What came back is larger than the caller allows."""

    code = "too_large"
    status = 413


def checked_path(path: str) -> str:
    """An absolute path without `..`. Raises BadRequest."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path or path.endswith("/"):
        raise BadRequest(f"files: {path!r} is not an absolute path of a file")
    return posixpath.normpath("/" + path.lstrip("/"))


def fits_specification(files: Mapping[str, bytes]) -> bool:
    """Whether files may go to hyperd within the pod's specification."""
    sizes = [len(data) for data in files.values()]
    return sum(sizes) <= _INJECTED_FILES and max(sizes, default=0) <= _INJECTED_FILE


def injected(files: Mapping[str, bytes]) -> list[dict[str, object]]:
    """Files as the `files` of a container's specification. Raises BadRequest."""
    from base64 import b64encode

    result: list[dict[str, object]] = []
    for path, data in files.items():
        path = checked_path(path)
        content = b64encode(data).decode()
        detail = {"name": posixpath.basename(path), "encoding": "base64", "content": content}
        result.append({"path": path, "perm": "0644", "detail": detail})
    return result


def packed(files: Mapping[str, bytes], mode: int = 0o644) -> IO[bytes]:
    """A tar archive of files, for the root directory. Raises BadRequest."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(checked_path(path)[1:])
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    archive.seek(0)
    return archive


class _Bounded:
    """An archive that may not be longer than it should be."""

    def __init__(self, body: BodyFile, bound: int) -> None:
        self._body = body
        self._left = bound

    def read(self, size: int = -1) -> bytes:
        data = self._body.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge("the files are larger than was allowed")
        return data


def unpacked(body: BodyFile, path: str, *, max_bytes: int, max_files: int) -> dict[str, bytes]:
    """The regular files of an archive of `path`, by their paths. Links to directories, devices
    and the like are left out.

    The archive comes from a guest: it is hostile until shown otherwise. Raises TooLarge,
    BadRequest.
    """
    above = posixpath.dirname(path.rstrip("/")) or "/"
    found: dict[str, bytes] = {}
    left, members = max_bytes, 0
    bounded = _Bounded(body, max_bytes + (max_files + 64) * _HEADERS)
    try:
        with tarfile.open(fileobj=bounded, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                members += 1
                if members > max_files or (member.isreg() and member.size > left):
                    raise TooLarge(
                        f"{path}: more than {max_bytes} bytes or {max_files} files and directories"
                    )
                name = _place(above, member.name)
                if member.isreg():
                    source = tar.extractfile(member)
                    found[name] = source.read() if source else b""
                    left -= member.size
                elif member.islnk():
                    target = _place(above, member.linkname)
                    if target in found:
                        found[name] = found[target]
    except tarfile.TarError as error:
        raise BadRequest(f"hyperd sent no valid archive: {error}") from error
    finally:
        body.close()
    return found


def _place(above: str, name: str) -> str:
    if ".." in name.split("/"):
        raise BadRequest(f"the archive has {name!r}, which leads out of it")
    return posixpath.normpath(posixpath.join(above, name.lstrip("/")))
