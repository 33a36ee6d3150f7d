"""Unpacking an archive that a container made: it is hostile until shown otherwise.

Every path is walked from the destination directory, one directory at a time and without
following symlinks, so that nothing is made or changed outside of it, whatever the archive holds
and in whatever order. Devices are not made.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile

from ..errors import BadRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .files import BodyFile

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Extractor:
    """Unpacks below one directory. `rename` gives each member another name, "" leaves it out."""

    def __init__(
        self, directory: str, rename: Callable[[str], str], *, keep_owner: bool = False
    ) -> None:
        """With `keep_owner` files get the archive's numeric owners, and keep set-id bits."""
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._rename = rename
        self._keep_owner = keep_owner
        self._directories: list[tuple[list[str], int, float]] = []
        self.skipped: list[str] = []

    def run(self, archive: BodyFile) -> None:
        """Unpack it all. Raises BadRequest for what leads out or overwrites a directory."""
        try:
            with tarfile.open(fileobj=archive, mode="r|") as tar:  # type: ignore[call-overload]
                for member in tar:
                    self._take(tar, member)
            for parts, mode, mtime in reversed(self._directories):
                self._finish_directory(parts, mode, mtime)
        except tarfile.TarError as error:
            raise BadRequest(f"hyperd sent no valid archive: {error}") from error
        finally:
            os.close(self._root)

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in self._rename(name).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadRequest(f"the archive has {name!r}, which leads out of it")
        return parts

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        if not parts:
            return
        parent = self._open(parts[:-1], create=True)
        try:
            self._make(tar, member, parts, parent)
        except FileExistsError:
            kind = "directory" if member.isdir() else "non-directory"
            raise BadRequest(f"cannot overwrite {'/'.join(parts)} with a {kind}") from None
        finally:
            os.close(parent)

    def _open(self, parts: list[str], *, create: bool) -> int:
        """A descriptor of a directory below the destination."""
        fd = os.dup(self._root)
        for index, part in enumerate(parts):
            try:
                if create:
                    try:
                        os.mkdir(part, 0o755, dir_fd=fd)
                    except FileExistsError:
                        pass
                below = os.open(part, _DIRECTORY, dir_fd=fd)
            except OSError as error:
                path = "/".join(parts[: index + 1])
                raise BadRequest(f"{path} is no directory: {error.strerror}") from error
            finally:
                os.close(fd)
            fd = below
        return fd

    def _make(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: list[str], parent: int
    ) -> None:
        name = parts[-1]
        if member.isdir():
            self._make_directory(member, parts, parent)
            return
        if not (member.isreg() or member.issym() or member.islnk() or member.isfifo()):
            self.skipped.append("/".join(parts))
            return
        self._make_room(name, parent)
        if member.isreg():
            self._make_file(tar, member, name, parent)
        elif member.islnk():
            source = self._parts(member.linkname)
            directory = self._open(source[:-1], create=False)
            try:
                os.link(
                    source[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False
                )
            finally:
                os.close(directory)
        else:
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
            else:
                os.mkfifo(name, member.mode & 0o777, dir_fd=parent)
            if self._keep_owner:
                os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)

    def _make_room(self, name: str, parent: int) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            raise FileExistsError
        os.unlink(name, dir_fd=parent)

    def _make_directory(self, member: tarfile.TarInfo, parts: list[str], parent: int) -> None:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                raise
        fd = os.open(parts[-1], _DIRECTORY, dir_fd=parent)
        try:
            if self._keep_owner:
                os.chown(fd, member.uid, member.gid)
        finally:
            os.close(fd)
        self._directories.append((parts, self._mode(member), float(member.mtime)))

    def _mode(self, member: tarfile.TarInfo) -> int:
        return member.mode & (0o7777 if self._keep_owner else 0o1777 if member.isdir() else 0o777)

    def _make_file(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int
    ) -> None:
        source = tar.extractfile(member)
        assert source is not None
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            if self._keep_owner:
                os.chown(file.fileno(), member.uid, member.gid)
            os.chmod(file.fileno(), self._mode(member))
            file.flush()
            os.utime(file.fileno(), (member.mtime, member.mtime))

    def _finish_directory(self, parts: list[str], mode: int, mtime: float) -> None:
        fd = self._open(parts, create=False)
        try:
            os.chmod(fd, mode)
            os.utime(fd, (mtime, mtime))
        finally:
            os.close(fd)
