"""What a container's processes may do: capabilities, new privileges; and its /dev/shm."""

import difflib
from dataclasses import dataclass

from ..guest.spec import CAPABILITIES, RLIMITS
from .reading import Node
from .values import parse_size

DEFAULT_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP"
    " NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
).split()
"""Those of Docker (moby, oci/caps/defaults.go)."""

ALL = "ALL"
DEFAULT_SHM = 64 << 20
_MIN_SHM = 4096
_MAX_SHM = 1 << 40


@dataclass(frozen=True, slots=True)
class Security:
    """Capabilities without `CAP_` that are added and dropped (ALL: every one), whether programs
    may gain privileges, and the size of /dev/shm in bytes."""

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    shm_size: int = DEFAULT_SHM

    def capabilities(self) -> list[str]:
        """The capabilities of the container, by Docker's rules: what is added by name wins over a
        dropped ALL, what is dropped by name over an added one."""
        if ALL in self.cap_add:
            kept = [name for name in CAPABILITIES if name not in self.cap_drop]
        elif ALL in self.cap_drop:
            kept = []
        else:
            kept = [name for name in DEFAULT_CAPABILITIES if name not in self.cap_drop]
        added = [n for n in self.cap_add if n != ALL and n not in (*kept, *self.cap_drop)]
        return [f"CAP_{name}" for name in (*kept, *added)]


def read_security(node: Node) -> Security:
    """The keys `capAdd`, `capDrop`, `noNewPrivileges` and `shmSize` of a container."""
    return Security(
        _capabilities(node, "capAdd"),
        _capabilities(node, "capDrop"),
        node.boolean("noNewPrivileges"),
        _shm_size(node),
    )


def _capabilities(node: Node, key: str) -> tuple[str, ...]:
    names = []
    for text in node.texts(key):
        name = text.upper().removeprefix("CAP_")
        if name not in (ALL, *CAPABILITIES):
            close = difflib.get_close_matches(name, CAPABILITIES, 1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise node.bad(key, f"{text!r} is not a capability{hint}")
        names.append(name)
    return tuple(dict.fromkeys(names))


def _shm_size(node: Node) -> int:
    value = node.take("shmSize")
    if isinstance(value, str):
        size = parse_size(value, node.where("shmSize"))
    else:
        size = node.integer("shmSize", 0, 0, _MAX_SHM)
    if 0 < size < _MIN_SHM or size > _MAX_SHM:
        raise node.bad("shmSize", f"{_MIN_SHM} bytes is the least, 1 TiB the most")
    return size or DEFAULT_SHM


def known_ulimit(name: str) -> bool:
    """Whether a name such as `nofile` is one of a resource limit."""
    return name.upper() in RLIMITS
