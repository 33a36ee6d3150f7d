"""A systemd of the test's own: an init in namespaces over a copy-on-write view of this host."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.hyperd_process import busybox_archive, wait_until

BIN = Path(sys.executable).parent
PACKAGING = Path(__file__).parents[2] / "packaging/systemd"
_SYSTEMD = Path("/lib/systemd/systemd")
_CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = ("systemd", "unified") if (_CGROUPS / "systemd").is_dir() else ("",)

_BOOT = """
set -eu
place=$1 boot=$2 hierarchies=$3 checkout=$4
mount --make-rprivate /
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
root=$place/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for own in "$checkout" "$HYPER_CACHE"; do
    mkdir -p "$root$own"
    mount --rbind "$own" "$root$own"
done
mkdir -p "$root/var/lib/hyper" "$root/etc/hyper"
mount --bind "$boot/hyper" "$root/var/lib/hyper"
mount --bind "$boot/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount -t sysfs -o ro sysfs "$root/sys" || mount --rbind /sys "$root/sys"
if [ -n "$hierarchies" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
rm -rf "$root/etc/systemd/system"
mkdir "$root/etc/systemd/system"
cp "$boot"/*.service "$boot"/*.socket "$boot/test.target" "$root/etc/systemd/system"
: >"$root/etc/machine-id"
: >"$root/etc/hyper/config"
mkdir "$root/host"
cd "$root"
pivot_root . host
umount -l host
rmdir host
exec env -i container=test PATH="$PATH" HYPER_CACHE="$HYPER_CACHE" \
    /lib/systemd/systemd --unit=test.target --log-target=null
"""
_TARGET = """[Unit]
Requires=basic.target
Wants={service}.service
After=basic.target {service}.service
"""


def available() -> str:
    """Why no systemd can be started here, "" when one can."""
    if not _SYSTEMD.exists():
        return "systemd is not installed"
    done = subprocess.run(
        ["unshare", "-m", "-p", "-n", "-C", "-f", "true"], capture_output=True, timeout=30
    )
    return "" if done.returncode == 0 else "namespaces can't be made here"


NEEDS_SYSTEMD = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(os.geteuid() != 0 or bool(available()), reason="needs systemd"),
]
COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"
"""What a container does whose life is looked at."""


class Machine:
    """It runs from `boot` to `cut`; what is below /var/lib/hyper stays from one to the next.

    Of the project's services one is started.
    """

    def __init__(self, directory: Path, service: str = "hyperd") -> None:
        self.directory = directory
        self.service = service
        self._place = Path(tempfile.mkdtemp(prefix="hyper-systemd-", dir="/run"))
        (directory / "hyper").mkdir()
        self._boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        cache = os.environ.get("HYPER_CACHE", "/var/cache/hyper")
        for unit in PACKAGING.iterdir():
            text = unit.read_text().replace("@BINDIR@", str(BIN))
            text = text.replace("[Service]", f"[Service]\nEnvironment=HYPER_CACHE={cache}")
            (directory / unit.name).write_text(text)
        (directory / "test.target").write_text(_TARGET.format(service=service))
        self._environment = {**os.environ, "HYPER_CACHE": cache}

    @property
    def _cgroups(self) -> list[Path]:
        return [_CGROUPS / name / self._place.name for name in _HIERARCHIES]

    def boot(self) -> None:
        """Start it, as the n-th boot of a host, and wait until its services are up."""
        self._boots += 1
        (self.directory / "boot_id").write_text(f"00000000-0000-4000-8000-{self._boots:012d}\n")
        for cgroup in self._cgroups:
            cgroup.mkdir(exist_ok=True)
        joins = "".join(f"echo $$ >{cgroup}/cgroup.procs; " for cgroup in self._cgroups)
        script = ["bash", "-c", _BOOT, "boot", str(self._place), str(self.directory)]
        unshare = ["unshare", "-m", "-p", "-n", "-i", "-u", "-C", "-f", "--kill-child"]
        command = [*unshare, *script, " ".join(_HIERARCHIES).strip(), str(BIN.parents[1])]
        with (self.directory / "init.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", joins + 'exec "$@"', "join", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        wait_until(self._is_up, "systemd", 60)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "init.log").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split()
        if not found or Path(f"/proc/{found[0]}/comm").read_text() != "systemd\n":
            return False
        self._init = int(found[0])
        done = self("systemctl", "is-system-running", check=False)
        return done in ("running", "degraded")

    def __call__(self, *command: str, check: bool = True) -> str:
        """Run a command in it; its output, of both kinds."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-p", "-n", "-i", "-u", "-C", "-r", "-w"]
        path = f"PATH={BIN}:{os.environ['PATH']}"
        done = subprocess.run(
            [*enter, "env", "-i", path, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or not check, (command, done.stdout)
        return done.stdout.rstrip("\n")

    def main_pid(self) -> str:
        """The pid of the service, in the machine."""
        return self("systemctl", "show", self.service, "-p", "MainPID", "--value")

    def lives(self, pid: int) -> bool:
        """Whether it has a process of this pid."""
        return Path(f"/proc/{self._init}/root/proc/{pid}").exists()

    def load_image(self) -> None:
        """Give its hyperd busybox:latest."""
        archive = busybox_archive(self.directory / "hyper" / "busybox.tar")
        self("hyper", "load", "-i", f"/var/lib/hyper/{archive.name}")
        archive.unlink()

    def cut(self) -> None:
        """Cut its power."""
        if self._process is None:
            return
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait(timeout=30)
        self._process, self._init = None, 0
        for cgroup in self._cgroups:
            wait_until(lambda c=cgroup: _removed(c), f"the end of all in {cgroup}")  # type: ignore[misc]

    def close(self) -> None:
        """Leave nothing of it."""
        self.cut()
        shutil.rmtree(self._place, ignore_errors=True)


def _removed(cgroup: Path) -> bool:
    """Remove a cgroup with all below it; whether that went."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not cgroup.exists()
