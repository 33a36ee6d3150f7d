"""Fetching the sources of runc and crun with apt, from wherever this machine gets its packages."""

import os
import re
import shutil
import subprocess
from pathlib import Path

_BOUND = 300
_PACKAGES = ("bats", "jq", "gawk", "gcc", "libc6-dev", "dpkg-dev", "busybox-static", "libcap-dev")


class Unavailable(Exception):
    """What the suites need can't be had here."""


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_BOUND)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-400:]}")


def install_tools() -> None:
    """Install what the suites use. Raises Unavailable."""
    programs = ("bats", "jq", "gawk", "gcc", "dpkg-source", "busybox")
    if any(shutil.which(program) is None for program in programs):
        _run("apt-get", "install", "-y", "-q", "--no-install-recommends", *_PACKAGES)


def _source_entries() -> str:
    """apt's own sources, for source packages, in the deb822 form."""
    entries = []
    parts = Path("/etc/apt/sources.list.d")
    for path in sorted(parts.glob("*.sources")):
        entries.append(re.sub(r"(?m)^Types:.*$", "Types: deb-src", path.read_text()))
    lists = [Path("/etc/apt/sources.list"), *sorted(parts.glob("*.list"))]
    for path in (p for p in lists if p.exists()):
        for line in path.read_text().splitlines():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
            if match:
                entries.append(
                    "Types: deb-src\nURIs: {}\nSuites: {}\nComponents: {}\n".format(*match.groups())
                )
    return "\n\n".join(entries)


def fetch(directory: Path, *packages: str) -> dict[str, Path]:
    """Unpack the source packages below `directory`; returns where each is. Raises Unavailable."""
    apt = directory / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (apt / "parts").mkdir(exist_ok=True)
    (apt / "parts" / "conformance.sources").write_text(_source_entries())
    options = [
        *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={apt}/parts"),
        *("-o", f"Dir::State::lists={apt}/lists", "-o", "Dir::Cache::pkgcache="),
        *("-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User=root"),
    ]
    found = {}
    _run("apt-get", *options, "-q", "update")
    for package in packages:
        target = directory / package
        target.mkdir(exist_ok=True)
        _run("apt-get", *options, "-q", "--download-only", "source", package, cwd=target)
        description = next(target.glob("*.dsc"))
        tree = target / "tree"
        if not tree.exists():
            _run("dpkg-source", "-x", str(description), str(tree), cwd=target)
        found[package] = tree
    return found


def environment(**more: str) -> dict[str, str]:
    """The environment of a suite: nothing of ours but what it needs."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "HYPER_CACHE", "TMPDIR")}
    return {**kept, "LANG": "C.UTF-8", **more}
