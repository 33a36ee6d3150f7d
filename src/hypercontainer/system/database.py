"""A SQLite database of a daemon: opened, brought to its schema, written in transactions.

WAL with synchronous=NORMAL: what is committed survives the death of the daemon; a power failure
may lose the last commits, and with them only VMs that are gone too.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import Conflict, HyperError, NoSpace

Step = Callable[[sqlite3.Connection], None]
"""Makes a schema of the one before it."""


class Database:
    """An open database, used by one thread."""

    def __init__(self, path: Path, steps: Sequence[Step], daemon: str) -> None:
        """Open or make it; the step at index N makes schema N + 1 of schema N.

        `daemon` is whose it is, for messages. Raises HyperError when it can't be used.
        """
        self.path = path
        self._daemon = daemon
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate(steps)
        except sqlite3.Error as error:
            raise HyperError(
                f"open the database {path}: {error}: restore it from a backup, or move it away to"
                " begin with none"
            ) from error

    def _migrate(self, steps: Sequence[Step]) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == len(steps):
            return
        if version > len(steps):
            raise HyperError(
                f"the database {self.path} has schema {version}, this {self._daemon} knows"
                f" {len(steps)}: run the newer {self._daemon} that wrote it"
            )
        self._db.execute("BEGIN EXCLUSIVE")
        for step in steps[version:]:
            step(self._db)
        self._db.execute(f"PRAGMA user_version = {len(steps)}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises Conflict (a name is taken), NoSpace, HyperError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError as error:
            raise Conflict(f"a name is in use ({error})") from error
        except sqlite3.Error as error:
            kind = NoSpace if error.sqlite_errorcode == sqlite3.SQLITE_FULL else HyperError
            raise kind(f"write the database {self.path}: {error}") from error

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """The first of what a query finds."""
        found: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return found
