"""Mount options of OCI configurations (runtime-spec 1.1, config.md "Mounts") as mount(2) flags."""

from ..errors import BadRequest
from ..quick.types import NamedTuple
from ..system import syscalls as sys

_FLAGS: dict[str, tuple[bool, int]] = {
    "async": (False, sys.MS_SYNCHRONOUS),
    "atime": (False, sys.MS_NOATIME),
    "bind": (True, sys.MS_BIND),
    "defaults": (True, 0),
    "dev": (False, sys.MS_NODEV),
    "diratime": (False, sys.MS_NODIRATIME),
    "dirsync": (True, sys.MS_DIRSYNC),
    "exec": (False, sys.MS_NOEXEC),
    "lazytime": (True, sys.MS_LAZYTIME),
    "loud": (False, sys.MS_SILENT),
    "mand": (True, sys.MS_MANDLOCK),
    "noatime": (True, sys.MS_NOATIME),
    "nodev": (True, sys.MS_NODEV),
    "nodiratime": (True, sys.MS_NODIRATIME),
    "noexec": (True, sys.MS_NOEXEC),
    "nolazytime": (False, sys.MS_LAZYTIME),
    "nomand": (False, sys.MS_MANDLOCK),
    "norelatime": (False, sys.MS_RELATIME),
    "nostrictatime": (False, sys.MS_STRICTATIME),
    "nosuid": (True, sys.MS_NOSUID),
    "nosymfollow": (True, sys.MS_NOSYMFOLLOW),
    "rbind": (True, sys.MS_BIND | sys.MS_REC),
    "relatime": (True, sys.MS_RELATIME),
    "remount": (True, sys.MS_REMOUNT),
    "ro": (True, sys.MS_RDONLY),
    "rw": (False, sys.MS_RDONLY),
    "silent": (True, sys.MS_SILENT),
    "strictatime": (True, sys.MS_STRICTATIME),
    "suid": (False, sys.MS_NOSUID),
    "sync": (True, sys.MS_SYNCHRONOUS),
    "symfollow": (False, sys.MS_NOSYMFOLLOW),
}

PROPAGATION: dict[str, int] = {
    "private": sys.MS_PRIVATE,
    "rprivate": sys.MS_PRIVATE | sys.MS_REC,
    "rshared": sys.MS_SHARED | sys.MS_REC,
    "rslave": sys.MS_SLAVE | sys.MS_REC,
    "runbindable": sys.MS_UNBINDABLE | sys.MS_REC,
    "shared": sys.MS_SHARED,
    "slave": sys.MS_SLAVE,
    "unbindable": sys.MS_UNBINDABLE,
}

# Options of the file system's own that carry no value; all others are NAME=VALUE.
_BARE_DATA = frozenset(
    "newinstance noswap inode32 inode64 nsdelegate"
    # of overlayfs
    " volatile userxattr"
    # of nfs(5)
    " soft hard softerr nosofterr lock nolock cto nocto ac noac acl noacl rdirplus nordirplus"
    " sharecache nosharecache resvport noresvport migration nomigration tcp udp".split()
)
_UNSUPPORTED = frozenset(("idmap", "ridmap"))

# A tmpfs that starts with what it covers, as runc has it.
COPY_UP = "tmpcopyup"

_ATTR_ATIME = 0x70
# Options that change all mounts below too: attributes of mount_setattr(2), set and cleared.
_RECURSIVE: dict[str, tuple[int, int]] = {
    "rro": (1, 0),
    "rrw": (0, 1),
    "rnosuid": (2, 0),
    "rsuid": (0, 2),
    "rnodev": (4, 0),
    "rdev": (0, 4),
    "rnoexec": (8, 0),
    "rexec": (0, 8),
    "rnodiratime": (0x80, 0),
    "rdiratime": (0, 0x80),
    "rrelatime": (0, _ATTR_ATIME),
    "rnorelatime": (0, _ATTR_ATIME),
    "rnoatime": (0x10, _ATTR_ATIME),
    "ratime": (0, _ATTR_ATIME),
    "rstrictatime": (0x20, _ATTR_ATIME),
    "rnostrictatime": (0, _ATTR_ATIME),
    "rnosymfollow": (0x200000, 0),
    "rsymfollow": (0, 0x200000),
}

# Every mount option that is known by name, for `runv features`.
NAMES = sorted({*_FLAGS, *PROPAGATION, *_RECURSIVE, COPY_UP})


class MountOptions(NamedTuple):
    """`flags` and `propagation` are MS_* values; `data` is the file system's own part."""

    flags: int
    propagation: int
    data: str


def parse_options(options: list[str], where: str) -> MountOptions:
    """Sort mount options into flags, propagation and data.

    Raises BadRequest naming `where` and the option that is neither.
    """
    flags, propagation = 0, 0
    data: list[str] = []
    for option in options:
        if option in _FLAGS:
            add, bits = _FLAGS[option]
            flags = flags | bits if add else flags & ~bits
        elif option in PROPAGATION:
            propagation = PROPAGATION[option]
        elif option in _RECURSIVE or option == COPY_UP:
            continue
        elif option in _UNSUPPORTED:
            raise BadRequest(f"{where}: mount option {option} is not supported")
        elif "=" in option or option in _BARE_DATA:
            data.append(option)
        else:
            raise BadRequest(f"{where}: unknown mount option {option!r}")
    return MountOptions(flags, propagation, ",".join(data))


def recursive_attributes(options: list[str]) -> list[int]:
    """The attributes that the recursive options set and clear; [0, 0] without any."""
    add, remove = 0, 0
    for option in options:
        set_bits, clear_bits = _RECURSIVE.get(option, (0, 0))
        add = add & ~clear_bits | set_bits
        remove = remove & ~set_bits | clear_bits
    return [add, remove]
