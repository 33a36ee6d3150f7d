"""Where hyperd keeps things."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """`root` outlives a reboot of the host, `state` (below /run) does not.

    `logs` is the directory of logs, in which each pod may have one of its own;
    None: each log is with its container's disk.
    """

    root: Path
    state: Path
    logs: Path | None = None
    pod_in_log_path: bool = True

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "hyperd.db"

    @property
    def containers(self) -> Path:
        """One directory a container: its disk and its log."""
        return self.root / "containers"

    @property
    def tools(self) -> Path:
        """The disk of what runs in VMs outside containers."""
        return self.root / "tools"

    @property
    def volumes(self) -> Path:
        """The volumes that hyperd keeps."""
        return self.root / "volumes"

    @property
    def snapshots(self) -> Path:
        """One directory a snapshot."""
        return self.root / "snapshots"

    @property
    def suspended(self) -> Path:
        """One directory a pod that is paused on disk."""
        return self.root / "suspended"

    @property
    def sandboxes(self) -> Path:
        """One directory a running pod: the state of its sandbox."""
        return self.state / "sandboxes"

    def container(self, cid: str) -> Path:
        """The directory of a container."""
        return self.containers / cid

    def upper(self, cid: str) -> Path:
        """The disk that takes a container's writes."""
        return self.containers / cid / "upper.img"

    def log(self, pod_id: str, cid: str) -> Path:
        """A container's log in Docker's json-file format; older ones have .1, .2 …"""
        directory = self.containers / cid
        if self.logs is not None:
            directory = self.logs / pod_id if self.pod_in_log_path else self.logs
        return directory / f"{cid}-json.log"

    def volume(self, name: str) -> Path:
        """The directory of a volume's data."""
        return self.volumes / name / "_data"

    def sandbox(self, pod_id: str) -> Path:
        """The state directory of a pod's sandbox."""
        return self.sandboxes / pod_id
