"""runv called many times at once, and killed at any time: nothing is left, nothing is stuck."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import leaks
from tests.e2e.rootfs import make_config, make_tree
from tests.e2e.runv_process import COMMAND, Done, Runv, subreaper, until
from tests.engines import leftovers
from tests.engines.network_namespace import unique

_PARALLEL = 20
_BOUND = 240.0


class Group:
    """runv, with a parent control group for its containers."""

    def __init__(self, runv: Runv, name: str) -> None:
        self.runv = runv
        self.name = name

    def bundle(self, cid: str, *args: str) -> str:
        """A bundle with a network namespace and a control group."""
        config = make_config(*args)
        config["linux"]["namespaces"].append({"type": "network"})
        config["linux"]["cgroupsPath"] = f"/{self.name}/{cid}"
        return self.runv.bundle(config=config)

    def call(self, *args: str) -> Done:
        """A command, with no streams that what it leaves behind could hold."""
        log = self.runv.directory / f"log-{random.getrandbits(64):x}"
        with open(os.devnull, "r+b") as null, log.open("wb") as errors:
            done = subprocess.run(
                [COMMAND, *self.runv.flags, *args],
                stdin=null,
                stdout=null,
                stderr=errors,
                timeout=_BOUND,
            )
        said = log.read_bytes()
        log.unlink()
        return subprocess.CompletedProcess(args, done.returncode, b"", said)

    def check(self, *args: str) -> None:
        """A command that must not fail."""
        done = self.call(*args)
        assert done.returncode == 0, done

    def look(self) -> dict[str, object]:
        """What is left of containers."""
        return {
            "ids": [p.name for p in self.runv.root.glob("*")],
            "processes": leftovers.vm_processes(str(self.runv.root))
            | leftovers.vm_processes(self.name),
            "groups": leftovers.groups(self.name),
        }


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """Asserts that all tests together leave nothing."""
    directory = tmp_path_factory.mktemp("runv")
    runv = Runv(directory, make_tree(tmp_path_factory.mktemp("rootfs") / "root"))
    found = Group(runv, unique("hypcc"))
    with subreaper(), leaks.none(runv.root, files=False):
        try:
            yield found
            leftovers.check_none(found.look)
        finally:
            leftovers.remove_groups(found.name)


def test_many_at_once(group: Group) -> None:
    bundles = {f"many{n}": group.bundle(f"many{n}", "sleep", "1000") for n in range(_PARALLEL)}

    def life(cid: str) -> None:
        group.check("create", "--bundle", bundles[cid], cid)
        group.check("start", cid)
        group.check("delete", "--force", cid)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(life, bundles))
    leftovers.check_none(group.look)


def test_one_id_many_times_at_once(group: Group) -> None:
    bundle = group.bundle("same", "sleep", "1000")
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda _: group.call("create", "-b", bundle, "same"), range(5)))
    assert sorted(d.returncode for d in done) == [0, 1, 1, 1, 1], done
    assert all(b"already exists" in d.stderr for d in done if d.returncode)
    group.check("start", "same")
    group.check("delete", "--force", "same")


@pytest.mark.parametrize("force", [True, False])
def test_deletes_at_once(group: Group, force: bool) -> None:
    group.check("create", "-b", group.bundle("twice", "true"), "twice")
    group.check("start", "twice")
    until(lambda: group.runv.state("twice")["status"] == "stopped")
    flags = ["--force"] if force else []
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: group.call("delete", *flags, "twice"), range(3)))
    codes = sorted(d.returncode for d in done)
    assert codes == ([0, 0, 0] if force else [0, 1, 1]), done
    assert all(b"does not exist" in d.stderr for d in done if d.returncode)


def test_kills_that_race_the_exit(group: Group) -> None:
    for turn in range(6):
        cid = f"race{turn}"
        group.check("create", "-b", group.bundle(cid, "sleep", "0.2"), cid)
        group.check("start", cid)
        until_stopped = time.monotonic() + 60
        while group.runv.state(cid)["status"] != "stopped":
            done = group.call("kill", cid, "CONT")
            assert done.returncode == 0 or b"not running" in done.stderr, done
            assert time.monotonic() < until_stopped
        assert b"not running" in group.call("kill", cid, "KILL").stderr
        group.check("kill", "--all", cid, "KILL")
        group.check("delete", cid)


@pytest.mark.parametrize("part", ["pid", "vmm_pid"])
def test_removal_after_a_part_was_killed(group: Group, part: str) -> None:
    group.check("create", "-b", group.bundle("broken", "sleep", "1000"), "broken")
    group.check("start", "broken")
    os.kill(group.runv.sandbox("broken")[part], signal.SIGKILL)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: group.call("delete", "-f", "broken"), range(2)))
    assert [d.returncode for d in done] == [0, 0], done
    leftovers.check_none(group.look)


def test_a_create_that_is_killed_is_repeated(group: Group) -> None:
    bundle = group.bundle("again", "sleep", "1000")
    choice = random.Random(7)
    for _ in range(8):
        with open(os.devnull, "r+b") as null:
            creating = subprocess.Popen(
                [COMMAND, *group.runv.flags, "create", "-b", bundle, "again"],
                stdin=null,
                stdout=null,
                stderr=null,
            )
        time.sleep(choice.uniform(0.02, 1.2))
        creating.kill()
        creating.wait(30)
        done = group.call("create", "-b", bundle, "again")
        if done.returncode:
            # It was complete before the signal came.
            assert b"already exists" in done.stderr, done
        group.check("start", "again")
        group.check("delete", "--force", "again")
        leftovers.check_none(group.look)
