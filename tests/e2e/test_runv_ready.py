"""VMs that runv's keeper has ready: used, told apart, and never the reason why a run fails."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.guest import kernel
from tests.e2e.leaks import drop_templates
from tests.e2e.rootfs import make_tree
from tests.e2e.runv_process import Runv, until

_LOOK = (
    "cat /etc/hostname 2>/dev/null; hostname; cat /proc/sys/kernel/random/uuid;"
    " od -An -N16 -tx1 /dev/urandom; date +%s"
)


def _command(pid: int | str) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode(errors="replace")


def _name(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _environment(pid: int | str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _stat(pid: int | str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ended(pid: int) -> bool:
    return (_stat(pid) or ["X"])[0] in "XZ"


class Keepers:
    """The keepers of one directory of templates, and the VMs that they have ready."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mark = f"HYPER_TEMPLATES={directory}\0".encode()

    def pids(self) -> list[int]:
        """Of keepers; what they fork is not counted."""
        return [
            int(entry)
            for entry in os.listdir("/proc")
            if entry.isdigit()
            and _name(entry) == "hyper-keeper"
            and self._mark in _environment(entry)
        ]

    def vms(self) -> list[int]:
        """QEMUs that are paused and wait, below one of the keepers."""
        keepers = {str(pid) for pid in self.pids()}
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and "-name ready,process=hyper-vm" in _command(entry):
                parent = _stat(entry)[1:2]
                if not parent or _name(parent[0]) != "hyper-ready":
                    continue
                if _stat(parent[0])[1] in keepers:
                    found.append(int(entry))
        return found

    def idle_vm(self) -> int:
        """Wait for one that needs no CPU any more: it is paused."""
        until(lambda: bool(self.vms()))
        (pid,) = self.vms()
        used: list[list[str]] = [[]]

        def paused() -> bool:
            time.sleep(0.3)
            used.append(_stat(pid)[11:13])
            return used[-1] == used[-2]

        until(paused)
        return pid


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keepers]:
    directory = tmp_path_factory.mktemp("ready") / "templates"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPER_TEMPLATES", str(directory))
        patch.setenv("HYPER_CACHED_VMS", "1")
        found = Keepers(directory)
        yield found
    drop_templates(directory)
    until(lambda: not found.pids())


@pytest.fixture(scope="module")
def runv(keepers: Keepers, tmp_path_factory: pytest.TempPathFactory) -> Runv:
    made = Runv(
        tmp_path_factory.mktemp("runv"), make_tree(tmp_path_factory.mktemp("rootfs") / "root")
    )
    assert made.run("true", cid="first").returncode == 0
    return made


def test_a_run_gets_a_ready_vm_and_two_differ(runv: Runv, keepers: Keepers) -> None:
    seen = []
    for number in (1, 2):
        vm = keepers.idle_vm()
        runv.create("sh", "-c", _LOOK.replace("hostname;", "uname -n;") + "; sleep 600", cid="c")
        state = runv.sandbox()
        assert (state["vmm_pid"], bool(state["template"])) == (vm, True)
        runv("start", "c")
        assert _stat(vm)[16] == "0", "it has the priority of others"
        group = Path(f"/proc/{vm}/cgroup").read_text()
        assert group == Path(f"/proc/{state['pid']}/cgroup").read_text()
        assert "/c\n" in group
        looked = runv("exec", "c", "sh", "-c", _LOOK).stdout.decode().splitlines()
        seen.append(looked[-3:])
        assert abs(int(looked[-1]) - time.time()) < 30, number
        runv("delete", "--force", "c")
        until(lambda vm=vm: _ended(vm))  # type: ignore[misc]
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_what_was_mounted_later_is_there(runv: Runv, keepers: Keepers, tmp_path: Path) -> None:
    keepers.idle_vm()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("later\n")
    bundle = Path(runv.bundle("cat", "/mnt/file"))
    config = json.loads((bundle / "config.json").read_text())
    source = str(tmp_path / "new")
    config["mounts"].append(
        {"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "ro"]}
    )
    (bundle / "config.json").write_text(json.dumps(config))
    assert runv("run", "--bundle", str(bundle), "later").stdout == b"later\n"


def test_a_ready_vm_that_died_fails_no_run(runv: Runv, keepers: Keepers) -> None:
    os.kill(keepers.idle_vm(), signal.SIGKILL)
    assert runv.run("echo", "on").stdout == b"on\n"


def test_a_stopped_ready_vm_fails_no_run(runv: Runv, keepers: Keepers) -> None:
    """It hangs when it is wanted; a VM that boots takes its place."""
    vm = keepers.idle_vm()
    os.kill(vm, signal.SIGSTOP)
    assert runv.run("echo", "on").stdout == b"on\n"
    until(lambda: _ended(vm))


def test_a_keeper_that_is_killed_leaves_nothing(runv: Runv, keepers: Keepers) -> None:
    with runv.running(cid="stays"):
        vm = keepers.idle_vm()
        (keeper,) = keepers.pids()
        os.kill(keeper, signal.SIGKILL)
        until(lambda: _ended(vm) and not keepers.vms())
        assert runv("exec", "stays", "echo", "alive").stdout == b"alive\n"
    assert runv.run("echo", "on").stdout == b"on\n"


def test_a_vm_of_another_initrd_is_passed_over(
    runv: Runv, keepers: Keepers, tmp_path: Path
) -> None:
    """The file is replaced while a VM of the old one is ready."""
    keepers.idle_vm()
    initrd = tmp_path / "initrd.img"
    shutil.copyfile(kernel.find().initrd, initrd)
    flags = ("--initrd", str(initrd), "run", "--bundle", runv.bundle("echo", "on"))
    assert runv(*flags, "one").stdout == b"on\n"
    until(lambda: len(keepers.vms()) == 2)
    until(lambda: len({tuple(_stat(p)[11:13]) for p in keepers.vms()}) > 0)
    shutil.copyfile(kernel.find().initrd, initrd)
    assert runv(*flags, "two").stdout == b"on\n"


def test_where_its_files_cannot_be_there_is_none(
    runv: Runv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "templates"
    place.write_text("not a directory\n")
    monkeypatch.setenv("HYPER_TEMPLATES", str(place))
    assert runv.run("echo", "on").stdout == b"on\n"


def test_none_when_none_is_wanted(runv: Runv, keepers: Keepers, tmp_path: Path) -> None:
    for pid in keepers.pids():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not keepers.pids())
    bundle = runv.bundle("true")
    for flags in (("--cache", "0"), ("--template", "off")):
        runv(*flags, "run", "--bundle", bundle, "none")
    time.sleep(0.5)
    assert not keepers.pids()
