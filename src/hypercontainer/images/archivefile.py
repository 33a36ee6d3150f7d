"""Reading members of a plain tar file where they lie, without unpacking it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .failures import BadImage, quoted
from .tarstream import DIRECTORY, FILE, HARDLINK, SYMLINK, clean_link, clean_name, entries

_MEMBER_LIMIT = 100_000
_LINK_DEPTH = 10


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: where its data begins, and how many bytes."""

    offset: int
    size: int


class ArchiveFile:
    """A tar file's members by name; a context manager. Its methods block."""

    def __init__(self, path: Path, what: str) -> None:
        """Reads the whole list of members; raises BadImage for hostile names and damage."""
        self._what = what
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._members: dict[bytes, Member] = {}
        self._links: dict[bytes, bytes] = {}
        try:
            self._read_list()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> "ArchiveFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def _read_list(self) -> None:
        source = FileSource(self._fd)
        for number, entry in enumerate(entries(source, self._what)):
            if number >= _MEMBER_LIMIT:
                raise BadImage(f"{self._what} is refused: more than {_MEMBER_LIMIT} members")
            name = clean_name(entry.name, self._what)
            if entry.kind == FILE:
                self._members[name] = Member(source.at, entry.size)
                if source.skip(entry.size) < entry.size:
                    raise BadImage(f"{self._what} is truncated: it ends within {quoted(name)}")
            elif entry.kind == SYMLINK:
                self._links[name] = name.rpartition(b"/")[0] + b"/" + entry.link
            elif entry.kind == HARDLINK:
                self._links[name] = entry.link
            elif entry.kind != DIRECTORY:
                raise BadImage(f"{self._what} is refused: {quoted(name)} is no file or directory")

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name.encode() in self._members

    def member(self, name: str) -> Member:
        """A file by name, through links; BadImage if there is none."""
        path = clean_name(name.encode(), self._what)
        for _ in range(_LINK_DEPTH):
            if path in self._members:
                return self._members[path]
            if path not in self._links:
                break
            path = clean_link(self._links[path].lstrip(b"/"), path, self._what)
        raise BadImage(f"{self._what} is damaged: it has no file {quoted(name)}")

    def read(self, name: str, limit: int) -> bytes:
        """A small file's content."""
        member = self.member(name)
        if member.size > limit:
            raise BadImage(f"{self._what} is refused: {quoted(name)} is larger than {limit} bytes")
        return os.pread(self._fd, member.size, member.offset)

    def open(self, member: Member) -> "MemberReader":
        """A file's content as a stream of its own."""
        return MemberReader(self._fd, member)


class MemberReader:
    """Reads one member from its begin; several may be read at once."""

    def __init__(self, fd: int, member: Member) -> None:
        self._fd = fd
        self._at = member.offset
        self._end = member.offset + member.size

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, empty at the end."""
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class FileSource:
    """A tar source over a seekable file: data is passed over without being read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self.at = 0

    def take(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self.at)
        self.at += len(data)
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        data = self.take(size)
        if data:
            yield data

    def skip(self, size: int) -> int:
        passed = max(min(size, self._size - self.at), 0)
        self.at += passed
        return passed
