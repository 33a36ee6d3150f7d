"""`hyper doctor` on the real machine, and hyperd started by the command that needs it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command_line import BOUND, HYPER, Hyper
from tests.e2e.hyperd_process import Hyperd


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_doctor(hyper: Hyper) -> None:
    device = Path("/dev/kvm")
    before = device.stat() if device.exists() else None
    done = hyper("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert report["can_run"] is True
    checks = {check["name"]: check for check in report["checks"]}
    assert {"root", "qemu", "kvm", "kernel", "initrd", "network", "disk", "cgroup"} <= set(checks)
    assert all(check["verdict"] in ("ok", "warn", "fail") for check in checks.values())
    assert "running" in checks["hyperd"]["message"]
    after = device.stat() if device.exists() else None
    assert before is None or after is None or before.st_mode == after.st_mode
    text = hyper.text("doctor")
    assert text.splitlines()[-1] == "containers can run here"


def test_doctor_says_what_is_missing(hyper: Hyper, tmp_path: Path) -> None:
    environment = {
        **hyper.environment,
        "HYPER_HOST": f"unix://{tmp_path}/none",
        "HYPER_QEMU": "qemu-not-there",
        "HYPER_CACHE": str(tmp_path),
        "PATH": str(tmp_path),
    }
    done = subprocess.run(
        [str(HYPER), "doctor", "--json"],
        env=environment,
        capture_output=True,
        timeout=BOUND,
        check=False,
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    for name, remedy in (("qemu", "qemu-system-x86"), ("initrd", "make initrd")):
        assert checks[name]["verdict"] == "fail"
        assert remedy in checks[name]["remedy"]


ALONE = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/hyper
mount -t tmpfs tmpfs /var/lib/hyper
status=0
"$HYPER" list --format json >/run/first 2>/run/notes || status=$?
"$HYPER" list --format json >/run/second 2>>/run/notes || status=$?
cat /run/first /run/second
cat /run/notes >&2
pid=$("$HYPER" version --format json | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')
[ -z "$pid" ] || kill "$pid"
exit $status
"""


def test_hyperd_is_started_when_it_is_missing() -> None:
    """In a mount namespace of its own, so that the defaults are used and nobody is disturbed."""
    environment = {k: v for k, v in os.environ.items() if k != "HYPER_HOST"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", ALONE],
        env={**environment, "HYPER": str(HYPER)},
        capture_output=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"[]\n[]\n"), done
    assert done.stderr == b"hyper: hyperd is not running: starting it\n"


BROKEN = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /etc/hyper
mount -t tmpfs tmpfs /etc/hyper
echo 'Rooot=/x' >/etc/hyper/config
exec "$HYPER" list
"""


def test_hyperd_that_does_not_start_says_why() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HYPER_HOST"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", BROKEN],
        env={**environment, "HYPER": str(HYPER)},
        capture_output=True,
        timeout=BOUND,
        check=False,
    )
    first, second = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert first == "hyper: hyperd is not running: starting it"
    assert second.startswith("hyper: hyperd did not start: ")
    assert "/etc/hyper/config" in second and "Rooot" in second
