"""Where the lab keeps what takes long to make: `CACHE/lab/NAME-KEY/`, made once for each key."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_KEPT = 2


class Cache:
    """A directory with a few results of each name, of which the newest are kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The directory of a result; when there is none, `make` fills it. Raises what that does.

        `key` is a hash of all that the result depends on.
        """
        target = self.directory / f"{name}-{key}"
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                for stale in self.directory.glob(f".{name}.*/"):
                    shutil.rmtree(stale)
                with tempfile.TemporaryDirectory(
                    prefix=f".{name}.", dir=self.directory, ignore_cleanup_errors=True
                ) as work:
                    made = Path(work, "made")
                    made.mkdir()
                    make(made)
                    made.rename(target)
            target.touch()
            self._forget_old(name, target)
        return target

    def _forget_old(self, name: str, current: Path) -> None:
        others = [path for path in self.directory.glob(f"{name}-*/") if path != current]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[_KEPT - 1 :]:
            shutil.rmtree(path)
