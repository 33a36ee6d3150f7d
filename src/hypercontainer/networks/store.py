"""Networks and pods' places in them, in hyperd's database."""

import json
import sqlite3
from pathlib import Path

from ..errors import HyperError
from .model import Endpoint, Network, PodNet

_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS endpoints (
    network TEXT NOT NULL, pod TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (network, pod)
) STRICT;
CREATE TABLE IF NOT EXISTS pod_networks (pod TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;
"""


class NetworkStore:
    """Tables of their own in the database, whose rows are JSON: keys can be added."""

    def __init__(self, path: Path) -> None:
        """Open them, or make them. Raises HyperError."""
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise HyperError(f"open the database {path}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def load(self) -> tuple[list[Network], list[Endpoint], list[PodNet]]:
        """Everything."""
        networks, endpoints, pods = (
            [json.loads(row[0]) for row in self._db.execute(f"SELECT data FROM {table}")]
            for table in ("networks", "endpoints", "pod_networks")
        )
        return (
            [Network.from_json(item) for item in networks],
            [Endpoint.from_json(item) for item in endpoints],
            [PodNet.from_json(item) for item in pods],
        )

    def _write(self, *statements: tuple[str, tuple[str, ...]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for text, values in statements:
                    self._db.execute(text, values)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise HyperError(f"write the database {self._path}: {error}") from error

    def save_network(self, network: Network) -> None:
        """Store a network."""
        row = (network.id, json.dumps(network.to_json()))
        self._write(("INSERT OR REPLACE INTO networks VALUES (?, ?)", row))

    def remove_network(self, network_id: str) -> None:
        """Forget a network."""
        self._write(("DELETE FROM networks WHERE id = ?", (network_id,)))

    def save_pod(self, pod: PodNet, endpoints: list[Endpoint]) -> None:
        """Store what a pod has, and all its endpoints, together."""
        self._write(
            ("DELETE FROM endpoints WHERE pod = ?", (pod.pod,)),
            (
                "INSERT OR REPLACE INTO pod_networks VALUES (?, ?)",
                (pod.pod, json.dumps(pod.to_json())),
            ),
            *(
                (
                    "INSERT INTO endpoints VALUES (?, ?, ?)",
                    (e.network, e.pod, json.dumps(e.to_json())),
                )
                for e in endpoints
            ),
        )

    def remove_pod(self, pod: str) -> None:
        """Forget a pod."""
        self._write(
            ("DELETE FROM endpoints WHERE pod = ?", (pod,)),
            ("DELETE FROM pod_networks WHERE pod = ?", (pod,)),
        )
