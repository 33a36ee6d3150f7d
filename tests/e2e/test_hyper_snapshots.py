"""Snapshots, forks and pauses on disk of running containers, by `hyper`."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict, HyperError, NoSpace, NotFound, NotSupported
from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd, wait_until
from tests.e2e.netns import NetHyperd, alone

MACHINE_ID = "0123456789abcdef0123456789abcdef"
COUNT = f"echo {MACHINE_ID} > /etc/machine-id; i=0; while echo $i; do i=$((i+1)); sleep 0.2; done"
LOOK = (
    "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id;"
    " od -An -N16 -tx1 /dev/urandom; cat /sys/class/net/eth0/address; date +%s"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetHyperd]:
    with alone(NetHyperd, tmp_path_factory.mktemp("snapshots")) as hyperd:
        yield hyperd


@pytest.fixture(scope="module")
def hyper(daemon: NetHyperd) -> Hyper:
    return Hyper(daemon.socket)


@pytest.fixture(scope="module")
def source(daemon: NetHyperd) -> str:
    """A running container that counts, for all tests: each finds it running, and leaves it so."""
    container = daemon.run("sh", "-c", COUNT, name="source")
    wait_until(lambda: "1" in numbers(daemon, container), "its first output")
    return container


def numbers(daemon: Hyperd, container: str) -> list[str]:
    return daemon.output_of(container).split()


def goes_on(daemon: Hyperd, container: str) -> None:
    """Assert that a container counts without a gap, whatever was done to it."""
    before = len(numbers(daemon, container))
    wait_until(lambda: len(numbers(daemon, container)) > before, "its next output")
    found = [int(n) for n in numbers(daemon, container)]
    assert found == list(range(found[0], found[0] + len(found)))


def remove(daemon: Hyperd, *containers: str) -> None:
    for container in containers:
        daemon.client.remove_container(container, force=True, volumes=True)


def test_copies_have_an_identity_of_their_own(daemon: NetHyperd, hyper: Hyper, source: str) -> None:
    assert hyper.text("snapshot", "source", "first") == "first"
    forks = hyper.text("fork", "-n", "2", "source").split()
    again = hyper.text("run", "-d", "--rm", "--from-snapshot", "first", "--name", "again")
    copies = [*forks, again]
    seen = [daemon.execute(c, "sh", "-c", LOOK)[1].split("\n")[:-1] for c in (source, *copies)]
    for number, what in enumerate(("host name", "machine id", "boot id", "random", "MAC")):
        assert len({words[number] for words in seen}) == len(seen), (what, seen)
    for words in seen:
        assert abs(int(words[5]) - time.time()) < 30
    assert seen[0][:2] == ["source", MACHINE_ID]
    inspected = [daemon.client.inspect_container(c) for c in (source, *copies)]
    assert len({i["NetworkSettings"]["IPAddress"] for i in inspected}) == len(seen)
    for container, about in zip((source, *copies), inspected, strict=True):
        name, address = about["Name"][1:], about["NetworkSettings"]["IPAddress"]
        hosts = daemon.execute(container, "cat", "/etc/hosts", "/etc/hostname")[1]
        assert f"{address}\t{name}\n" in hosts
        assert hosts.endswith(f"\n{name}\n")
        goes_on(daemon, container)
    saved = hyper.text("snapshot", "ls").splitlines()[1].split()
    assert saved[:3] == ["first", "source", "busybox"]
    remove(daemon, *copies)
    daemon.client.remove_snapshot("first")
    goes_on(daemon, source)


def test_a_copy_can_be_talked_to(daemon: NetHyperd, hyper: Hyper) -> None:
    daemon.run("sh", "-c", "read a; read b; echo $a-$b; exit 7", name="reads", stdin=True)
    stream = daemon.client.attach("reads", stdin=True)
    stream.write(b"one\n")
    time.sleep(0.3)
    daemon.client.create_snapshot("reads", "reading")
    stream.close()
    done = hyper("run", "-i", "--rm", "--from-snapshot", "reading", input=b"two\n")
    assert (done.returncode, done.stdout) == (7, b"one-two\n"), done
    for option in (("-e", "A=B"), ("-m", "512m"), ("--read-only",)):
        refused = hyper("run", *option, "--from-snapshot", "reading")
        assert b"--from-snapshot: --" in refused.stderr
    refused = hyper("run", "--from-snapshot", "reading", "busybox")
    assert b"the snapshot has its image already" in refused.stderr
    remove(daemon, "reads")
    assert hyper.text("snapshot", "rm", "reading") == "reading"
    assert hyper("snapshot", "rm", "reading").stderr == b"hyper: no such snapshot: reading\n"


def test_disks_are_copied(daemon: NetHyperd) -> None:
    daemon.client.create_volume("data", driver="disk")
    mounts = [{"path": "/data", "detail": {"name": "data"}}]
    script = "echo old >/data/f; echo old >/f; sleep 900"
    daemon.run("sh", "-c", script, name="disks", volumes=mounts)
    wait_until(lambda: daemon.execute("disks", "cat", "/f")[1] == "old\n", "its files")
    daemon.client.create_snapshot("disks", "disks")
    daemon.execute("disks", "sh", "-c", "echo new >/data/f; echo new >/f")
    (copy,) = daemon.client.run_snapshot("disks", {"id": "copied"})["Containers"]
    assert daemon.execute(copy, "cat", "/f", "/data/f") == (0, "old\nold\n")
    assert daemon.execute("disks", "cat", "/f", "/data/f") == (0, "new\nnew\n")
    # A copy that starts again runs its program on its own disks.
    daemon.client.restart_container(copy, 0)
    wait_until(lambda: daemon.execute(copy, "cat", "/data/f") == (0, "old\n"), "its file")
    remove(daemon, copy, "disks")
    assert [v["Name"] for v in daemon.client.list_volumes()] == ["data"]
    daemon.client.remove_snapshot("disks")


def test_pause_to_disk(daemon: NetHyperd, hyper: Hyper) -> None:
    container = daemon.run("sh", "-c", COUNT, name="sleeper")
    wait_until(lambda: "1" in numbers(daemon, container), "its first output")
    before = daemon.client.inspect_container(container)["NetworkSettings"]
    vmm = daemon.vm_of(container)["VmmPid"]
    assert hyper.text("pause", "--to-disk", "sleeper") == "sleeper"
    assert not Path(f"/proc/{vmm}").exists()
    assert daemon.state_of(container)["Status"] == "paused"
    assert b"paused on disk: unpause it first" in hyper("exec", "sleeper", "true").stderr
    # Neither a hyperd that is killed nor the next one ends it.
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert daemon.state_of(container)["Status"] == "paused"
    assert hyper.text("unpause", "sleeper") == "sleeper"
    goes_on(daemon, container)
    found = [int(n) for n in numbers(daemon, container)]
    assert found[0] == 0
    after = daemon.client.inspect_container(container)["NetworkSettings"]
    assert [after[k] for k in ("IPAddress", "MacAddress")] == [
        before[k] for k in ("IPAddress", "MacAddress")
    ]
    code, stamp = daemon.execute(container, "date", "+%s")
    assert code == 0
    assert abs(int(stamp) - time.time()) < 30
    hyper.text("pause", "--to-disk", "sleeper")
    hyper.text("kill", "sleeper")
    assert daemon.client.wait(container) == 137
    remove(daemon, container)
    daemon.nothing_left_but("source")


def test_the_clock_after_a_pause(daemon: NetHyperd, source: str) -> None:
    daemon.client.pause_container(source)
    time.sleep(3)
    daemon.client.unpause_container(source)
    begun = time.time()
    stamp = int(daemon.execute(source, "date", "+%s")[1])
    assert int(begun) - 1 <= stamp <= time.time() + 1


def test_what_can_not_be_saved(daemon: NetHyperd, tmp_path: Path, source: str) -> None:
    daemon.client.create_volume("here")
    mounts = [{"path": "/a", "detail": {"name": "here"}}]
    daemon.run("sleep", "900", name="shares", volumes=mounts)
    for act in (
        lambda: daemon.client.create_snapshot("shares", "no"),
        lambda: daemon.client.fork_container("shares"),
        lambda: daemon.client.pause_container("shares", to_disk=True),
    ):
        with pytest.raises(NotSupported, match=r"volume here at /a is a directory.*driver disk"):
            act()
    remove(daemon, "shares")
    daemon.client.create_volume("lost", driver="disk")
    lost = [{"path": "/a", "detail": {"name": "lost"}}]
    daemon.run("sleep", "900", name="loses", volumes=lost)
    (daemon.root / "volumes" / "lost" / "disk.img").unlink()
    with pytest.raises(NotFound, match="volume lost at /a of container loses is gone"):
        daemon.client.create_snapshot("loses", "no")
    assert daemon.execute("loses", "echo", "hi") == (0, "hi\n")
    remove(daemon, "loses")
    with pytest.raises(NotFound, match="no such pod: nobody"):
        daemon.client.create_snapshot("nobody", "no")
    with pytest.raises(BadRequest, match="not a valid name"):
        daemon.client.create_snapshot(source, "../no")
    with pytest.raises(BadRequest, match="a copy has what its pod had"):
        daemon.client.fork_container(source, wanted={"resource": {"memory": 1}})
    with pytest.raises(BadRequest, match="can't have one name"):
        daemon.client.fork_container(source, 2, {"id": "x"})
    with pytest.raises(Conflict, match="name source is in use"):
        daemon.client.fork_container(source, wanted={"id": "source"})
    goes_on(daemon, source)


def test_a_directory_that_can_not_be_used(daemon: NetHyperd, source: str) -> None:
    place = daemon.root / "snapshots"
    place.mkdir(exist_ok=True)

    def mounted(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)

    for options, error, what in (
        ("size=1m", NoSpace, "MiB on the disk of .* are free"),
        ("ro", HyperError, "make a snapshot in .*: Read-only file system"),
        ("uid=12345", Conflict, "belongs to another user"),
    ):
        mounted(options)
        try:
            with pytest.raises(error, match=what):
                daemon.client.create_snapshot(source, "no")
        finally:
            subprocess.run(["umount", place], check=True)
        goes_on(daemon, source)
    assert daemon.client.list_snapshots() == []


def test_a_bad_snapshot(daemon: NetHyperd, source: str) -> None:
    daemon.client.create_snapshot(source, "good")
    good = daemon.root / "snapshots" / "good"

    def with_bad(spoil: Callable[[Path], object], what: str) -> None:
        bad = daemon.root / "snapshots" / "bad"
        subprocess.run(["cp", "-a", good, bad], check=True, timeout=60)
        spoil(bad)
        with pytest.raises(Conflict, match=what):
            daemon.client.run_snapshot("bad")
        daemon.client.remove_snapshot("bad")

    def truncate(bad: Path) -> None:
        os.truncate(bad / "ram", 4096)

    def change(bad: Path) -> None:
        with (bad / "ram").open("r+b") as ram:
            ram.seek(0x100000)
            ram.write(b"x" * 100)

    def change_state(bad: Path) -> None:
        data = bytearray((bad / "state").read_bytes())
        data[len(data) // 2] ^= 0xFF
        (bad / "state").write_bytes(data)

    with_bad(truncate, "snapshot bad is damaged: ram has 4096 bytes")
    with_bad(change, "snapshot bad is damaged: the content of ram has changed")
    with_bad(change_state, "snapshot bad is damaged: the content of state has changed")
    with_bad(lambda bad: (bad / "state").unlink(), "damaged: state: No such file")
    with_bad(lambda bad: (bad / "snapshot.json").write_text("{"), "snapshot bad is damaged")
    with_bad(lambda bad: (bad / "snapshot.json").write_text("{}"), "of another version")
    with_bad(lambda bad: os.chown(bad, 12345, 0), "belongs to the user 12345")
    kernel = daemon.root.parent / "kernel"
    vm = json.loads((daemon.state / "sandboxes/source/state.json").read_text())
    shutil.copy(vm["kernel"], kernel)
    with kernel.open("ab") as file:
        file.write(b"another")
    daemon.end()
    daemon.config.write_text(f"Kernel={kernel}\nInitrd={vm['initrd']}\n")
    daemon.start()
    try:
        with pytest.raises(Conflict, match="the snapshot is of another kernel"):
            daemon.client.run_snapshot("good")
    finally:
        daemon.end()
        daemon.config.write_text("")
        daemon.start()
    daemon.client.remove_snapshot("good")
    daemon.nothing_left_but("source")
    goes_on(daemon, source)


def test_killed_in_the_midst(daemon: NetHyperd, source: str) -> None:
    """hyperd dies while it forks and saves: nothing is left, and the container goes on."""
    sandboxes, snapshots = daemon.state / "sandboxes", daemon.root / "snapshots"
    kill_during(daemon, lambda: daemon.client.fork_container(source, 3), sandboxes)
    goes_on(daemon, source)
    kill_during(daemon, lambda: daemon.client.create_snapshot(source, "half"), snapshots)
    goes_on(daemon, source)
    assert daemon.client.list_snapshots() == []
    assert list(snapshots.iterdir()) == []


def kill_during(daemon: NetHyperd, act: Callable[[], object], place: Path) -> None:
    """Kill hyperd once something appears in a directory, and start the next one."""
    before = set(place.iterdir())
    thread = threading.Thread(target=quietly, args=(act,))
    thread.start()
    until(lambda: set(place.iterdir()) > before)
    daemon.end(signal.SIGKILL)
    thread.join(60)
    daemon.start()
    daemon.nothing_left_but("source")


def quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except (HyperError, OSError):
        pass


def test_no_memory_for_copies(tmp_path: Path) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"hyper-test-{os.getpid()}"
    if not group.parent.is_dir():
        group = Path("/sys/fs/cgroup") / group.name
    group.mkdir()
    limit = next(f for f in ("memory.max", "memory.limit_in_bytes") if (group / f).exists())
    (group / limit).write_text(str(900 << 20))
    hyperd = Hyperd(tmp_path)
    enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    hyperd.prefix = ["sh", "-c", enter, "sh"]
    try:
        hyperd.start()
        hyperd.load_image()
        container = hyperd.run("sh", "-c", COUNT, name="source")
        with pytest.raises(NoSpace, match=r"fork source: it takes .* MiB of memory, and .* are"):
            hyperd.client.fork_container(container, 32)
        goes_on(hyperd, container)
        hyperd.client.create_snapshot(container, "keeps")
        remove(hyperd, container)
        with pytest.raises(Conflict, match="used by the snapshot keeps"):
            hyperd.client.remove_image("busybox")
        assert not hyperd.client.prune_images({"dangling": ["false"]})["ImagesDeleted"]
        hyperd.client.remove_snapshot("keeps")
        hyperd.client.remove_image("busybox")
    finally:
        hyperd.close()
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
