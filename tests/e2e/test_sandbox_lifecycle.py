"""Containers of one VM: states, signals, limits, disks that come and go."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypercontainer.errors import BadRequest, HyperError, NotRunning, VMError
from hypercontainer.sandbox import SandboxClient, VMConfig, launch, read_state
from tests.e2e.engine import ACCEL
from tests.e2e.rootfs import make_config, make_upper, process
from tests.e2e.vms import BOUND, Disks, collect, execute, read_streams, run, sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxClient]:
    async with sandbox(tmp_path_factory.mktemp("vm"), share=True) as client:
        yield client


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


@contextlib.asynccontextmanager
async def running(
    vm: SandboxClient, disks: Disks, cid: str, *args: str, **linux: Any
) -> AsyncIterator[str]:
    """A container that runs while the body does."""
    config = make_config(*(args or ("sleep", "3600")))
    config["linux"].update(linux)
    await vm.create_container(cid, config, disks.rootfs())
    await vm.start_container(cid)
    try:
        yield cid
    finally:
        await vm.remove_container(cid, force=True)


async def status(vm: SandboxClient, cid: str) -> dict[str, Any]:
    found: dict[str, Any] = (await vm.info())["containers"][cid]
    return found


async def ended(vm: SandboxClient, cid: str) -> tuple[int, int]:
    found = await asyncio.wait_for(vm.wait(cid), BOUND)
    return found.code, found.signal


async def test_the_states_of_a_container(vm: SandboxClient, disks: Disks) -> None:
    await vm.create_container(
        "s", make_config("sh", "-c", "read x; exit 5"), disks.rootfs(), stdin=True
    )
    created = await status(vm, "s")
    assert (created["status"], created["started_at"], created["exit_code"]) == ("created", "", None)
    assert created["pid"] > 0
    assert (await execute(vm, "s", "early", process("echo", "x"))).stdout == b"x\n"
    with pytest.raises(NotRunning):
        await vm.freeze("s", True)
    await vm.start_container("s")
    assert (await status(vm, "s"))["status"] == "running"
    with pytest.raises(NotRunning, match="it is running"):
        await vm.start_container("s")
    with pytest.raises(NotRunning, match="stop it first"):
        await vm.remove_container("s")
    _, writer = await vm.attach("s")
    writer.write(b"x\n")
    assert await ended(vm, "s") == (5, 0)
    stopped = await status(vm, "s")
    assert (stopped["status"], stopped["exit_code"]) == ("stopped", 5)
    assert stopped["created_at"] <= stopped["started_at"] <= stopped["finished_at"]
    for call in (
        vm.start_container("s"),
        vm.exec("s", "e", process("true")),
        vm.signal("s", "init", 9),
    ):
        with pytest.raises(NotRunning):
            await call
    assert await ended(vm, "s") == (5, 0)
    await vm.remove_container("s")
    writer.close()


async def test_a_container_that_was_never_started_is_removed(
    vm: SandboxClient, disks: Disks
) -> None:
    await vm.create_container("n", make_config("true"), disks.rootfs())
    await vm.remove_container("n")
    assert "n" not in (await vm.info())["containers"]


async def test_a_signal_to_a_created_container(vm: SandboxClient, disks: Disks) -> None:
    await vm.create_container("k", make_config("true"), disks.rootfs())
    await vm.signal("k", "init", 9)
    assert await ended(vm, "k") == (137, 9)
    await vm.remove_container("k")


async def test_signals_are_passed_as_they_are(vm: SandboxClient, disks: Disks) -> None:
    """Known trouble 22: TERM was turned into KILL to look fast."""
    script = "trap 'sleep 1; exit 7' TERM; echo up; while :; do sleep 0.1; done"
    await vm.create_container("t", make_config("sh", "-c", script), disks.rootfs())
    reader, writer = await vm.attach("t", stdin=False)
    await vm.start_container("t")
    await asyncio.wait_for(reader.readuntil(b"up\n"), BOUND)
    await vm.signal("t", "init", 15)
    assert await ended(vm, "t") == (7, 0)
    await vm.remove_container("t")
    writer.close()


async def test_a_first_process_that_ignores_a_signal_goes_on(
    vm: SandboxClient, disks: Disks
) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    await vm.create_container("i", make_config("sh", "-c", script), disks.rootfs())
    reader, writer = await vm.attach("i", stdin=False)
    await vm.start_container("i")
    await asyncio.wait_for(reader.readuntil(b"up\n"), BOUND)
    await vm.signal("i", "init", 15)
    await asyncio.sleep(0.5)
    assert (await status(vm, "i"))["status"] == "running"
    await vm.signal("i", "init", 9)
    assert await ended(vm, "i") == (137, 9)
    await vm.remove_container("i")
    writer.close()


async def test_a_signal_to_all_reaches_every_process_of_this_container_only(
    vm: SandboxClient, disks: Disks
) -> None:
    async with running(vm, disks, "a"), running(vm, disks, "b"):
        await vm.exec("a", "one", process("sleep", "3600"))
        await vm.exec("b", "two", process("sleep", "3600"))
        await vm.signal("a", "init", 9, all=True)
        for pid in ("init", "one"):
            found = await asyncio.wait_for(vm.wait("a", pid), BOUND)
            assert (found.code, found.signal) == (137, 9)
        assert (await status(vm, "b"))["status"] == "running"
        assert len(await vm.processes("b")) == 2


async def test_the_end_of_the_first_process_ends_the_others(
    vm: SandboxClient, disks: Disks
) -> None:
    async with running(vm, disks, "e"):
        await vm.exec("e", "other", process("sleep", "3600"))
        await vm.signal("e", "init", 9)
        assert await ended(vm, "e") == (137, 9)
        assert (await asyncio.wait_for(vm.wait("e", "other"), BOUND)).code == 137


async def test_freezing_stops_one_container_and_no_other(vm: SandboxClient, disks: Disks) -> None:
    script = "while :; do echo tick; sleep 0.1; done"
    async with running(vm, disks, "f", "sh", "-c", script), running(vm, disks, "g"):
        reader, writer = await vm.attach("f", stdin=False)
        await asyncio.wait_for(reader.readuntil(b"tick\n"), BOUND)
        await vm.freeze("f", True)
        assert (await status(vm, "f"))["status"] == "paused"
        with pytest.raises(NotRunning):
            await vm.exec("f", "x", process("true"))
        with pytest.raises(NotRunning):
            await vm.freeze("f", True)
        await asyncio.sleep(0.3)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1 << 16), 0.2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"tick\n"), 0.5)
        assert (await execute(vm, "g", "y", process("echo", "free"))).stdout == b"free\n"
        await vm.freeze("f", False)
        await asyncio.wait_for(reader.readuntil(b"tick\n"), BOUND)
        writer.close()


async def test_a_frozen_container_can_be_killed_and_removed(
    vm: SandboxClient, disks: Disks
) -> None:
    async with running(vm, disks, "z"):
        await vm.freeze("z", True)
        await vm.signal("z", "init", 9)
        assert await ended(vm, "z") == (137, 9)
    async with running(vm, disks, "z"):
        await vm.freeze("z", True)


async def test_a_paused_vm_stands_still(vm: SandboxClient, disks: Disks) -> None:
    async with running(vm, disks, "p"):
        await vm.pause()
        assert (await vm.info())["status"] == "paused"
        with pytest.raises(NotRunning):
            await vm.pause()
        await vm.resume()
        assert (await vm.info())["status"] == "running"
        assert (await execute(vm, "p", "x", process("echo", "back"))).stdout == b"back\n"


async def test_statistics_and_processes(vm: SandboxClient, disks: Disks) -> None:
    async with running(vm, disks, "st"):
        await vm.exec("st", "x", process("sleep", "77"))
        files = await vm.stats("st")
        assert int(files["memory.current"]) > 0
        assert files["pids.current"].strip() == "2"
        assert "usage_usec" in files["cpu.stat"]
        found = await vm.processes("st")
        assert sorted(p["cmd"] for p in found) == ["sleep 3600", "sleep 77"]
        assert all(p["uid"] == 0 and p["pid"] > 1 for p in found)


async def test_a_process_that_takes_too_much_memory_is_reported_so(
    vm: SandboxClient, disks: Disks
) -> None:
    """Known trouble 47: exit 137 with no record of who killed."""
    config = make_config("sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo $x")
    config["linux"]["resources"] = {"memory": {"limit": 16 << 20}}
    ran = await run(vm, disks.rootfs(), cid="oom", config=config, keep=True)
    assert ran.status.code == 137
    assert ran.status.oom
    assert ran.status.reason == "out of memory"
    assert (await status(vm, "oom"))["oom"] is True
    await vm.remove_container("oom")
    async with running(vm, disks, "plain"):
        await vm.signal("plain", "init", 9)
        killed = await asyncio.wait_for(vm.wait("plain"), BOUND)
        assert (killed.code, killed.oom, killed.reason) == (137, False, "signal 9")


async def test_limits_are_set_and_changed(vm: SandboxClient, disks: Disks) -> None:
    resources = {
        "memory": {"limit": 32 << 20},
        "pids": {"limit": 20},
        "cpu": {"quota": 50000, "period": 100000},
    }
    script = "cd /sys/fs/cgroup && cat memory.max pids.max cpu.max"
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    config = make_config("sleep", "3600")
    config["linux"]["resources"] = resources
    config["mounts"].append(mount)
    await vm.create_container("l", config, disks.rootfs())
    await vm.start_container("l")
    found = await execute(vm, "l", "x", process("sh", "-c", script))
    assert found.stdout.decode().splitlines() == ["33554432", "20", "50000 100000"]
    await vm.update("l", {"memory": {"limit": 64 << 20}, "pids": {"limit": -1}})
    found = await execute(vm, "l", "y", process("sh", "-c", script))
    assert found.stdout.decode().splitlines() == ["67108864", "max", "50000 100000"]
    with pytest.raises(BadRequest, match=r"linux\.resources\.pids\.limit"):
        await vm.update("l", {"pids": {"limit": "many"}})
    await vm.remove_container("l", force=True)


async def test_what_a_container_wrote_is_there_when_its_disk_is_used_again(
    vm: SandboxClient, disks: Disks
) -> None:
    rootfs = disks.rootfs()
    script = "echo kept > /kept; rm /etc/group; mkdir /d; cat /kept"
    assert (await run(vm, rootfs, "sh", "-c", script)).stdout == b"kept\n"
    script = "cat /kept; ls -d /d; ls /etc"
    assert (await run(vm, rootfs, "sh", "-c", script)).stdout.split() == [b"kept", b"/d", b"passwd"]
    assert b"group" in (await run(vm, disks.rootfs(), "ls", "/etc")).stdout


async def test_many_containers_one_after_another_leave_nothing(
    vm: SandboxClient, disks: Disks
) -> None:
    """Known trouble 25, within the VM: mounts, disks, cgroups, processes."""
    rootfs = disks.rootfs()

    async def inside(pid: str) -> bytes:
        script = "cat /proc/partitions | wc -l; ls /sys/class/scsi_device | wc -l"
        return (await execute(vm, "look", pid, process("sh", "-c", script))).stdout

    async with running(vm, disks, "look"):
        before = await inside("before")
        for number in range(20):
            ran = await run(vm, rootfs, "sh", "-c", f"echo {number} >> /log; tail -1 /log")
            assert ran.stdout == b"%d\n" % number
        assert await inside("after") == before


async def test_a_writable_disk_has_one_user(vm: SandboxClient, disks: Disks) -> None:
    rootfs = disks.rootfs()
    await vm.create_container("w", make_config("true"), rootfs)
    with pytest.raises(BadRequest, match="in use already"):
        await vm.create_container("x", make_config("true"), rootfs)
    await vm.remove_container("w")
    await run(vm, rootfs, "true", cid="x")


async def test_two_containers_in_one_vm_do_not_see_each_other(
    vm: SandboxClient, disks: Disks
) -> None:
    async with running(vm, disks, "one"), running(vm, disks, "two"):
        await execute(vm, "one", "w", process("sh", "-c", "echo secret > /tmp/file; hostname one"))
        ran = await execute(vm, "two", "r", process("sh", "-c", "ls /tmp; hostname; ps | wc -l"))
        assert ran.stdout.split()[0] == b"box"
        assert int(ran.stdout.split()[1]) <= 5


async def test_each_container_has_its_own_rules_of_devices(vm: SandboxClient, disks: Disks) -> None:
    """More of them than the guest keeps programs of, and some twice."""
    opens = "mknod /tmp/$n c 240 $n; (: < /tmp/$n) 2>&1 | grep -q 'not permitted' || echo $n"
    for allowed in (1, 2, 3, 4, 5, 6, 1, 6):
        config = make_config("sh", "-c", f"for n in 1 2 3 4 5 6; do {opens}; done")
        rules: list[dict[str, Any]] = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "access": "m"},
            {"allow": True, "type": "c", "major": 240, "minor": allowed, "access": "rw"},
        ]
        config["linux"]["resources"] = {"devices": rules}
        assert (await run(vm, disks.rootfs(), config=config)).stdout == b"%d\n" % allowed


async def test_a_file_system_that_is_full_is_the_containers_trouble_only(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    small = disks.rootfs(make_upper(tmp_path / "small.img", 4 << 20))
    ran = await run(
        vm, small, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=20; echo $?", cid="full"
    )
    assert ran.stdout == b"1\n"
    assert b"No space left" in ran.stderr
    assert (await run(vm, disks.rootfs(), "echo", "fine")).stdout == b"fine\n"


async def test_a_disk_that_is_no_file_system_is_refused_and_let_go(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.img"
    junk.write_bytes(bytes(1 << 20))
    with pytest.raises(HyperError) as caught:
        await vm.create_container("j", make_config("true"), disks.rootfs(junk))
    assert len(caught.value.message.splitlines()) == 1
    make_upper(junk, 8 << 20)
    assert (await run(vm, disks.rootfs(junk), "echo", "now", cid="j")).stdout == b"now\n"


async def test_files_are_put_over_the_images(vm: SandboxClient, disks: Disks) -> None:
    files = [
        {"path": "/etc/hosts", "content": "127.0.0.1 me\n", "mode": 0o644},
        {"path": "/etc/passwd", "content": "root:x:0:0::/:/bin/sh\n", "mode": 0o600},
    ]
    config = make_config("sh", "-c", "cat /etc/hosts /etc/passwd; stat -c %a /etc/passwd")
    await vm.create_container("files", config, disks.rootfs(), files=files)
    ran = await collect(vm, "files", "init", None, start=True)
    assert ran.stdout == b"127.0.0.1 me\nroot:x:0:0::/:/bin/sh\n600\n"
    await vm.remove_container("files")


def add_bind(config: dict[str, Any], target: str, source: Path, *options: str) -> None:
    config["mounts"].append(
        {
            "destination": target,
            "type": "bind",
            "source": str(source),
            "options": ["rbind", *options],
        }
    )


async def test_binds_of_directories_and_files_of_the_host(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    for name in ("data", "read"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in").write_text(f"{name} of the host\n")
    (tmp_path / "file").write_text("one file\n")
    script = "cat /d/in /r/in /f; echo back > /d/out; echo no > /r/x; echo add >> /f"
    config = make_config("sh", "-c", script)
    add_bind(config, "/d", tmp_path / "data")
    add_bind(config, "/r", tmp_path / "read", "ro")
    add_bind(config, "/f", tmp_path / "file")
    ran = await run(vm, disks.rootfs(), config=config, cid="binds")
    assert ran.stdout == b"data of the host\nread of the host\none file\n"
    assert ran.stderr.count(b"Read-only") == 1
    assert (tmp_path / "data" / "out").read_text() == "back\n"
    assert (tmp_path / "file").read_text() == "one file\nadd\n"
    assert not (tmp_path / "read" / "x").exists()


async def test_one_directory_bound_twice_is_read_only_in_one_place_only(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    script = "echo 1 > /r/x; echo 2 > /w/y; cat /r/y; echo 3 > /r/y; cat /w/y"
    config = make_config("sh", "-c", script)
    add_bind(config, "/r", tmp_path / "data", "ro")
    add_bind(config, "/w", tmp_path / "data")
    ran = await run(vm, disks.rootfs(), config=config, cid="twice")
    assert ran.stdout == b"2\n2\n"
    assert ran.stderr.count(b"Read-only") == 2
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["y"]


async def test_a_bind_of_what_is_not_there_is_named(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    config = make_config("true")
    source = str(tmp_path / "missing")
    config["mounts"].append({"destination": "/d", "type": "bind", "source": source})
    with pytest.raises(BadRequest, match=f"{source} does not exist"):
        await vm.create_container("nb", config, disks.rootfs())


async def test_a_log_in_dockers_format_is_kept_without_any_reader(
    vm: SandboxClient, disks: Disks, tmp_path: Path
) -> None:
    log = tmp_path / "c-json.log"
    config = make_config("sh", "-c", "for i in $(seq 3000); do echo line $i; done; echo e >&2")
    await vm.create_container("log", config, disks.rootfs(), log={"path": str(log)})
    await vm.start_container("log")
    assert await ended(vm, "log") == (0, 0)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    out = [e["log"] for e in entries if e["stream"] == "stdout"]
    assert out == [f"line {i}\n" for i in range(1, 3001)]
    assert [e["log"] for e in entries if e["stream"] == "stderr"] == ["e\n"]
    await vm.remove_container("log")


async def test_events_tell_of_ends(vm: SandboxClient, disks: Disks) -> None:
    seen: list[dict[str, Any]] = []

    async def listen() -> None:
        async for event in vm.events():
            seen.append(event)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await run(vm, disks.rootfs(), "sh", "-c", "exit 9", cid="ev")
    await asyncio.sleep(0.2)
    listening.cancel()
    exits = [e for e in seen if e["type"] == "exit"]
    assert [(e["container"], e["process"], e["code"]) for e in exits] == [("ev", "init", 9)]


async def test_removal_by_force_and_creation_in_turns(vm: SandboxClient, disks: Disks) -> None:
    """Known trouble 23: a loop of create, exec, exit, delete got stuck."""
    for number in range(5):
        async with running(vm, disks, "loop"):
            ran = await execute(vm, "loop", "x", process("sh", "-c", f"exit {number}"))
            assert ran.status.code == number


async def test_an_orderly_end_keeps_the_disks_whole_and_the_state(
    disks: Disks, tmp_path: Path
) -> None:
    rootfs = disks.rootfs()
    client = await launch("orderly", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"))
    await client.create_container("c", make_config("sh", "-c", "echo x > /x; sleep 600"), rootfs)
    await client.start_container("c")
    await execute(client, "c", "x", process("sh", "-c", "until [ -s /x ]; do sleep 0.1; done"))
    await client.shutdown()
    async with asyncio.timeout(BOUND):
        while (state := read_state(tmp_path / "vm")) and state["alive"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert state is not None
    assert state["status"] == "stopped"
    assert "guest ended" in state["reason"]
    assert state["containers"]["c"]["status"] == "stopped"
    assert state["containers"]["c"]["exit_code"] in (137, 143)
    async with sandbox(tmp_path) as again:
        assert (await run(again, rootfs, "cat", "/x")).stdout == b"x\n"


async def test_a_vm_that_does_not_linger_ends_with_its_last_container(
    disks: Disks, tmp_path: Path
) -> None:
    client = await launch(
        "brief", tmp_path / "vm", VMConfig(accel=ACCEL, template="off", linger=False)
    )
    await client.create_container("c", make_config("sh", "-c", "exit 3"), disks.rootfs())
    ran = await collect(client, "c", "init", None, start=True)
    assert ran.status.code == 3
    async with asyncio.timeout(10):
        while (state := read_state(tmp_path / "vm")) and state["alive"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert state is not None
    assert state["containers"]["c"]["exit_code"] == 3


async def test_a_slow_reader_gets_everything_though_the_vm_has_ended(
    disks: Disks, tmp_path: Path
) -> None:
    client = await launch(
        "slow", tmp_path / "vm", VMConfig(accel=ACCEL, template="off", linger=False)
    )
    config = make_config("sh", "-c", "head -c 150000 /dev/zero; printf E")
    await client.create_container("c", config, disks.rootfs())
    reader, writer = await client.attach("c", stdin=False)
    await client.start_container("c")
    assert (await asyncio.wait_for(client.wait("c"), BOUND)).code == 0
    async with asyncio.timeout(BOUND):
        while (state := read_state(tmp_path / "vm")) and state["status"] != "stopped":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(6)
    out, _ = await read_streams(reader)
    assert len(out) == 150_001
    writer.close()
    async with asyncio.timeout(10):
        while (state := read_state(tmp_path / "vm")) and state["alive"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_who_wants_the_sandbox_gone_does_not_wait_for_a_reader(
    disks: Disks, tmp_path: Path
) -> None:
    client = await launch(
        "gone", tmp_path / "vm", VMConfig(accel=ACCEL, template="off", linger=False)
    )
    await client.create_container(
        "c", make_config("head", "-c", "150000", "/dev/zero"), disks.rootfs()
    )
    _, writer = await client.attach("c", stdin=False)
    await client.start_container("c")
    await asyncio.wait_for(client.wait("c"), BOUND)
    await asyncio.sleep(1)
    await client.kill()
    async with asyncio.timeout(8):
        while (state := read_state(tmp_path / "vm")) and state["alive"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    writer.close()


async def test_what_has_ended_can_be_killed_again(tmp_path: Path) -> None:
    """Also at every moment of its end, in which its socket is there and nobody accepts."""
    async with sandbox(tmp_path) as client:
        await asyncio.gather(*(client.kill() for _ in range(8)))
        async with asyncio.timeout(BOUND):
            while (state := read_state(client.state_dir)) and state["alive"]:
                await client.kill()
        with pytest.raises(VMError, match="the sandbox is gone: "):
            await client.info()
