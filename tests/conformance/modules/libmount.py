"""What crun's tests use of util-linux's libmount for Python, which Debian does not have."""

from typing import NamedTuple


class Mount(NamedTuple):
    """One line of mountinfo (proc(5))."""

    target: str
    vfs_options: str
    fs_options: str


class Table:
    """A mountinfo file."""

    def __init__(self, path: str) -> None:
        self._mounts = []
        with open(path) as file:
            for line in file:
                first, _, second = line.partition(" - ")
                left, right = first.split(), second.split()
                if len(left) > 5 and len(right) > 2:
                    self._mounts.append(Mount(left[4], left[5], right[2]))

    def find_target(self, target: str) -> Mount:
        """The last mount on a target. Raises LookupError."""
        for mount in reversed(self._mounts):
            if mount.target == target:
                return mount
        raise LookupError(target)
