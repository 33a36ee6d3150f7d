"""Programs of Debian's packages, which need not be installed on this machine; each fetched once."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypercontainer.guest.kernel import cache_directory

_BOUND = 300.0
_FETCH = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")
# What no program reads that is measured here.
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale")


def packages(*names: str) -> Path:
    """A directory with the files of these packages, and of no others."""

    def fetch(directory: Path) -> None:
        _run(*_FETCH, "download", *names, cwd=directory)

    return _once("-".join(names), fetch)


def system(*names: str) -> Path:
    """A root file system of these packages and all that they depend on; not configured."""

    def fetch(directory: Path) -> None:
        # An empty list of what is installed, so that nothing is left out.
        (directory / "status").touch()
        (directory / "partial").mkdir()
        places = (f"Dir::State::status={directory}/status", f"Dir::Cache::archives={directory}")
        options = [word for place in (*places, "Debug::NoLocking=1") for word in ("-o", place)]
        kept = ("-y", "--no-install-recommends", "--download-only")
        _run(*_FETCH, *options, *kept, "install", *names)

    return _once("system-" + "-".join(names), fetch)


def _once(name: str, fetch: Callable[[Path], None]) -> Path:
    place = Path(cache_directory()) / "bench" / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as text:
        directory = Path(text)
        fetch(directory)
        files = directory / "files"
        for package in sorted(directory.glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(files))
        for left_out in _LEFT_OUT:
            shutil.rmtree(files / left_out, ignore_errors=True)
        os.chmod(files, 0o755)
        files.rename(place)
    return place


def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, timeout=_BOUND)
