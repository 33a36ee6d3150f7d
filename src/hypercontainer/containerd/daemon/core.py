"""What all services share."""

from dataclasses import dataclass

from ...system.database import Database
from .collector import Collector
from .contentstore import ContentStore
from .exchange import Exchange
from .snapshotstore import SnapshotStore


@dataclass(frozen=True)
class Core:
    """The database, the stores of files, and whoever has to hear of changes."""

    database: Database
    events: Exchange
    content: ContentStore
    snapshots: SnapshotStore
    collector: Collector
