"""A restart of the host, and hyperd of another version on what the one before left."""

import os
import shutil
import signal
from pathlib import Path

import pytest

import hypercontainer
from hypercontainer.errors import NotSupported
from hypercontainer.sandbox import read_state
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(120)

WRITES = "echo run >>/runs; sync; cat /runs; exec sleep 1000"


def reboot(hyperd: Hyperd, *, keep_state: bool) -> None:
    """Cut the power: all processes end at once, and /run is empty afterwards."""
    hyperd.end(signal.SIGKILL)
    for directory in (hyperd.state / "sandboxes").iterdir():
        state = read_state(directory)
        assert state is not None
        os.kill(state["pid"], signal.SIGKILL)
        wait_until(lambda d=directory: not (read_state(d) or {})["alive"], "the end")  # type: ignore[misc]
    if not keep_state:
        shutil.rmtree(hyperd.state / "sandboxes")
    boot_id = hyperd.root.parent / "boot_id"
    boot_id.write_text("00000000-0000-4000-8000-000000000001\n")
    mount = f"mount --bind {boot_id} /proc/sys/kernel/random/boot_id"
    hyperd.prefix = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    hyperd.start()


@pytest.mark.parametrize("keep_state", [False, True])
def test_after_a_restart_of_the_host(own_hyperd: Hyperd, keep_state: bool) -> None:
    hyperd = own_hyperd
    once = hyperd.run("sh", "-c", WRITES, name="once")
    always = hyperd.run("sh", "-c", WRITES, name="always", restartPolicy="always")
    failing = hyperd.run("sh", "-c", WRITES, name="failing", restartPolicy="on-failure:1")
    removed = hyperd.run("sleep", "1000", pod_autoRemove=True)
    ended = hyperd.run("sh", "-c", "exit 3", name="ended")
    created = hyperd.create("true", name="created")
    for container in (once, always, failing):
        wait_until(lambda c=container: hyperd.output_of(c) == "run\n", "its output")  # type: ignore[misc]
    assert hyperd.client.wait(ended) == 3
    reboot(hyperd, keep_state=keep_state)

    listed = {c["Id"]: c["State"] for c in hyperd.client.list_containers(all=True)}
    assert removed not in listed
    assert (listed[once], listed[ended], listed[created]) == ("exited", "exited", "created")
    state = hyperd.state_of(once)
    assert (state["ExitCode"], state["Reason"]) == (255, "the host was restarted")
    assert hyperd.state_of(ended)["ExitCode"] == 3
    for container in (always, failing):
        wait_until(lambda c=container: hyperd.output_of(c).count("run") == 3, "its restart")  # type: ignore[misc]
        assert hyperd.output_of(container) == "run\n" + "run\nrun\n", "its disk and log are kept"
        assert hyperd.state_of(container)["Status"] == "running"
        hyperd.client.remove_container(container, force=True)
    hyperd.client.start_container(once)
    wait_until(lambda: hyperd.output_of(once) == "run\nrun\nrun\n", "its start")
    for container in (once, ended, created):
        hyperd.client.remove_container(container, force=True)
    hyperd.nothing_left()


def test_a_vm_that_another_version_started(own_hyperd: Hyperd, tmp_path: Path) -> None:
    hyperd = own_hyperd
    hyperd.run("sh", "-c", "echo hi; exec sleep 1000", name="old")
    machine = hyperd.vm_of("old")["VmmPid"]
    hyperd.end()
    newer = copy_with(
        tmp_path / "newer",
        ("__init__.py", '__version__ = "', '__version__ = "9.'),
        ("sandbox/client.py", '"pause", paused=True', '"suspend", paused=True'),
    )
    hyperd.environment = {"PYTHONPATH": str(newer)}
    hyperd.start()
    assert hyperd.client.version()["Version"].startswith("9.")
    assert hyperd.vm_of("old")["VmmPid"] == machine
    assert hyperd.execute("old", "echo", "hello") == (0, "hello\n")
    with pytest.raises(NotSupported, match="does not know the request 'suspend'"):
        hyperd.client.pause_pod("old")
    hyperd.end()

    another = copy_with(
        tmp_path / "another",
        ("sandbox/state.py", "\nPROTOCOL = 1\n", "\nPROTOCOL = 2\n"),
        ("sandbox/state.py", "\nOLDEST_PROTOCOL = 1\n", "\nOLDEST_PROTOCOL = 2\n"),
    )
    hyperd.environment = {"PYTHONPATH": str(another)}
    hyperd.start()
    with pytest.raises(NotSupported, match="speaks protocol 1 of sandboxes, this version 2"):
        hyperd.execute("old", "true")
    assert hyperd.output_of("old") == "hi\n"
    assert hyperd.state_of("old")["Status"] == "running"
    hyperd.client.stop_container("old", 0)
    assert hyperd.state_of("old")["ExitCode"] == 137
    hyperd.client.remove_container("old")
    hyperd.nothing_left()


def copy_with(directory: Path, *changes: tuple[str, str, str]) -> Path:
    """A copy of the package, with changes of (file, old text, new text)."""
    package = directory / "hypercontainer"
    shutil.copytree(Path(hypercontainer.__file__).parent, package)
    for name, old, new in changes:
        text = (package / name).read_text()
        assert text.count(old) == 1, (name, old)
        (package / name).write_text(text.replace(old, new))
    return directory
