"""The entries of a layer's tar: what leads out of the image, or is too much, is refused."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .failures import BadImage, quoted
from .tarstream import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    Source,
    clean_name,
    entries,
)

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

_KINDS = frozenset((FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
# null, zero, full, random, urandom, tty, console, ptmx: Linux's Documentation/admin-guide/devices
_HARMLESS_DEVICES = frozenset(((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)))
_XATTR_PREFIXES = (b"user.", b"security.", b"trusted.")  # what squashfs can hold


_NAME_COST = 300  # bytes, about, of Python's objects for a name and its attributes


@dataclass(frozen=True)
class Limits:
    """Bounds of one layer."""

    entries: int = 1_000_000
    bytes: int = 256 << 30
    held: int = 512 << 20  # about, of memory for names and attributes


@dataclass
class Tree:
    """What of a layer is written at its end, how many entries were read, and the memory taken."""

    what: str
    limits: Limits
    directories: dict[bytes, Entry] = field(default_factory=dict)
    whiteouts: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)
    count: int = 0
    held: int = 0

    def hold(self, name: bytes) -> None:
        """Account for a name that is kept; BadImage when it is too much."""
        self.held += len(name) + _NAME_COST
        if self.held > self.limits.held:
            raise BadImage(f"{self.what} is refused: its names need too much memory")

    def imply(self, path: bytes, files: set[bytes]) -> None:
        """Add the parents of `path` that are not there; BadImage when one is among `files`."""
        for parent in parents(path):
            if parent in self.directories:
                return
            if parent in files:
                raise below_file(path, parent, self.what)
            self.hold(parent)
            self.directories[parent] = implied_directory()


def implied_directory() -> Entry:
    """A directory that a layer has no entry for."""
    return Entry(b"", DIRECTORY, 0o755, 0, 0, 0, 0, b"", 0, 0, {})


def parents(path: bytes) -> Iterator[bytes]:
    """The directories above a path, nearest first, without the root."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def below_file(path: bytes, parent: bytes, what: str) -> BadImage:
    return BadImage(
        f"{what} is refused: {quoted(path)} lies below {quoted(parent)}, which is no directory"
    )


def missing_target(path: bytes, link: bytes, what: str) -> BadImage:
    return BadImage(
        f"{what} is refused: {quoted(path)} is a hard link to {quoted(link)},"
        " which the layer does not have before it"
    )


def checked(source: Source, tree: Tree) -> Iterator[tuple[int, Entry, bytes]]:
    """The numbered entries but whiteouts, which go to `tree`; refuses what is not allowed."""
    what, limits = tree.what, tree.limits
    total = 0
    for number, entry in enumerate(entries(source, what)):
        total += entry.size
        tree.count = number + 1
        if number >= limits.entries:
            raise BadImage(f"{what} is refused: more than {limits.entries} entries")
        if total > limits.bytes:
            raise BadImage(f"{what} is refused: larger than {limits.bytes} bytes")
        if entry.kind not in _KINDS:
            raise BadImage(
                f"{what} is refused: {quoted(entry.name)} is of an unknown kind"
                f" ({quoted(entry.kind)})"
            )
        path = clean_name(entry.name, what)
        tree.hold(path)
        parent, _, base = path.rpartition(b"/")
        if base.startswith(WHITEOUT):
            _note_whiteout(parent, base, entry, tree)
            if entry.size and source.skip(entry.size) < entry.size:
                raise BadImage(f"{what} is truncated: it ends within {quoted(entry.name)}")
            continue
        if entry.xattrs:
            entry.xattrs = _kept_xattrs(entry.xattrs)
            if entry.kind == DIRECTORY:
                tree.held += sum(map(len, entry.xattrs.values()))
        if entry.kind in (CHAR, BLOCK_DEVICE):
            _check_device(entry, what)
        if not path and entry.kind != DIRECTORY:
            raise BadImage(f"{what} is refused: the root is not a directory")
        yield number, entry, path


def _note_whiteout(parent: bytes, base: bytes, entry: Entry, tree: Tree) -> None:
    if base == OPAQUE:
        tree.opaque.add(parent)
        return
    if base.startswith(b".wh..wh."):
        return  # aufs' own files: .wh..wh.plnk, .wh..wh.aufs
    hidden = base[len(WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise BadImage(f"{tree.what} is refused: {quoted(entry.name)} removes no name")
    tree.whiteouts.add(parent + b"/" + hidden if parent else hidden)


def _kept_xattrs(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Those that squashfs can hold, without what would steer overlayfs."""
    return {
        key: value
        for key, value in xattrs.items()
        if key.startswith(_XATTR_PREFIXES)
        and not key.startswith((b"trusted.overlay.", b"user.overlay."))
        and len(key) < 256
        and len(value) <= 65536
    }


def _check_device(entry: Entry, what: str) -> None:
    if entry.kind == BLOCK_DEVICE or (entry.major, entry.minor) not in _HARMLESS_DEVICES:
        word = "block" if entry.kind == BLOCK_DEVICE else "character"
        raise BadImage(
            f"{what} is refused: {quoted(entry.name)} is a {word} device"
            f" ({entry.major}:{entry.minor})"
        )
