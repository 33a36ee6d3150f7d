"""Debian's static busybox for arm64, which the guests of these tests run.

apt fetches it into directories of its own: the machine's architectures stay as they are.
"""

import subprocess
import tempfile
from pathlib import Path

from hypercontainer.guest.kernel import cache_directory

_PACKAGE = "busybox-static"
_BOUND = 300.0


def busybox() -> Path:
    """The program; fetched once. Raises CalledProcessError when apt can't have it."""
    path = Path(cache_directory()) / "arm64" / "busybox"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            _fetch(Path(work)).rename(path)
    return path


def _fetch(work: Path) -> Path:
    for name in ("lists/partial", "cache/archives/partial", "tree"):
        (work / name).mkdir(parents=True)
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        # apt's own user can't write here.
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
    }
    apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    for command in ([*apt, "update"], [*apt, "download", _PACKAGE]):
        _run(command, work)
    _run(["dpkg-deb", "-x", str(next(work.glob("*.deb"))), "tree"], work)
    return work / "tree" / "bin" / "busybox"


def _run(command: list[str], work: Path) -> None:
    subprocess.run(command, cwd=work, check=True, timeout=_BOUND, capture_output=True)
