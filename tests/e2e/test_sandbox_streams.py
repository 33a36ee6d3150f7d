"""Processes in a VM: their streams, statuses, terminals. A VM that booted and one that was cloned
serve all tests here."""

import asyncio
import hashlib
import os
import platform
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypercontainer.errors import (
    BadRequest,
    Conflict,
    HyperError,
    NotFound,
    NotRunning,
    ProgramError,
)
from hypercontainer.hypervisor import template as store
from hypercontainer.sandbox import SandboxClient, VMConfig
from hypercontainer.sandbox import template as maker
from tests.e2e import vms
from tests.e2e.engine import ACCEL
from tests.e2e.rootfs import make_config, process
from tests.e2e.vms import BOUND, Disks, collect, execute, read_streams, run, sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["booted", "cloned"])
async def vm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SandboxClient]:
    directory = tmp_path_factory.mktemp("vm")
    cloned = request.param == "cloned"
    with pytest.MonkeyPatch.context() as patch:
        vms.keep_templates(patch, directory / "templates")
        if cloned:
            await asyncio.to_thread(maker.make, VMConfig(accel=ACCEL))
        async with sandbox(directory, template="use" if cloned else "off") as client:
            assert bool((await client.info())["template"]) == cloned
            yield client
        for name in store.names():
            store.remove(name)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(vm: SandboxClient, disks: Disks) -> str:
    """A container that sleeps, to execute things in."""
    await vm.create_container("box", make_config("sleep", "3600"), disks.rootfs(), stdin=True)
    await vm.start_container("box")
    return "box"


_count = 0


def fresh(prefix: str = "e") -> str:
    global _count
    _count += 1
    return f"{prefix}{_count}"


async def sh(
    vm: SandboxClient, box: str, script: str, stdin: bytes | None = None, **keys: Any
) -> tuple[bytes, bytes, int]:
    ran = await execute(vm, box, fresh(), process("sh", "-c", script, **keys), stdin)
    return ran.stdout, ran.stderr, ran.status.code


async def test_a_container_from_creation_to_removal(vm: SandboxClient, disks: Disks) -> None:
    ran = await run(vm, disks.rootfs(), "sh", "-c", "echo out; echo err >&2; exit 7", cid="whole")
    assert (ran.stdout, ran.stderr, ran.status.code) == (b"out\n", b"err\n", 7)
    assert ran.status.signal == 0
    assert ran.status.finished_at.endswith("Z")
    assert "whole" not in (await vm.info())["containers"]


@pytest.mark.parametrize("code", [0, 1, 125, 255])
async def test_exit_codes(vm: SandboxClient, box: str, code: int) -> None:
    assert (await sh(vm, box, f"exit {code}"))[2] == code


@pytest.mark.parametrize("signum", [1, 9, 11, 15, 34])
async def test_a_death_by_signal_is_128_and_the_signal(
    vm: SandboxClient, box: str, signum: int
) -> None:
    ran = await execute(vm, box, fresh(), process("sh", "-c", f"kill -{signum} $$"))
    assert (ran.status.code, ran.status.signal) == (128 + signum, signum)
    assert ran.status.reason == f"signal {signum}"


async def test_the_first_process_has_pid_1_and_the_containers_name(
    vm: SandboxClient, disks: Disks
) -> None:
    ran = await run(
        vm, disks.rootfs(), "sh", "-c", "echo $$; hostname; ls /proc | grep -c '^[0-9]'"
    )
    assert ran.stdout.split()[:2] == [b"1", b"box"]
    assert int(ran.stdout.split()[2]) <= 4


async def test_run_and_exec_are_on_the_guests_kernel(
    vm: SandboxClient, disks: Disks, box: str
) -> None:
    """Known trouble 11: exec landed on the host's kernel."""
    ran = await run(vm, disks.rootfs(), "uname", "-rv")
    executed = await execute(vm, box, fresh(), process("uname", "-rv"))
    assert ran.stdout == executed.stdout
    assert platform.release().encode() not in ran.stdout.split()
    assert ran.stdout.split()[0].decode() == (await vm.info())["guest"]["kernel"]


async def test_a_hundred_execs_in_one_container(vm: SandboxClient, box: str) -> None:
    """Known trouble 12: runners of CI systems live on exec."""
    for number in range(100):
        out, err, code = await sh(vm, box, f"echo {number}")
        assert (out, err, code) == (f"{number}\n".encode(), b"", 0)


async def test_execs_at_the_same_time_do_not_mix(vm: SandboxClient, box: str) -> None:
    script = "for i in $(seq 200); do echo {0} $i; done"
    results = await asyncio.gather(*(sh(vm, box, script.format(n)) for n in range(10)))
    for number, (out, _, code) in enumerate(results):
        assert out == b"".join(b"%d %d\n" % (number, i) for i in range(1, 201))
        assert code == 0


async def test_the_end_of_stdin_ends_a_reader(vm: SandboxClient, disks: Disks, box: str) -> None:
    """Known trouble 13: `echo 123 | … cat` printed and hung."""
    assert (await sh(vm, box, "cat", b"123\n"))[0] == b"123\n"
    assert (await run(vm, disks.rootfs(), "cat", stdin=b"123\n")).stdout == b"123\n"
    assert (await sh(vm, box, "cat", b""))[0] == b""


async def test_without_stdin_a_reader_ends_at_once_and_output_keeps_coming(
    vm: SandboxClient, box: str
) -> None:
    """Known trouble 15: without stdin the session closed after the first output."""
    script = "cat; for i in 1 2 3 4 5; do echo $i; sleep 0.3; done"
    assert (await sh(vm, box, script))[0] == b"1\n2\n3\n4\n5\n"


async def test_stdin_that_nobody_reads_does_not_hold_the_end_up(
    vm: SandboxClient, box: str
) -> None:
    out, _, code = await sh(vm, box, "echo done; exit 3", bytes(1 << 20))
    assert (out, code) == (b"done\n", 3)


async def test_a_mebibyte_each_way_is_the_same_afterwards(vm: SandboxClient, box: str) -> None:
    data = os.urandom(1 << 20)
    out, _, code = await sh(vm, box, "tee /dev/stderr", data)
    assert code == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    out, err, _ = await sh(vm, box, "tee /dev/stderr | md5sum", data)
    assert err == data
    assert out.split()[0].decode() == hashlib.md5(data).hexdigest()


async def test_stderr_is_apart_and_both_are_whole(vm: SandboxClient, box: str) -> None:
    script = "for i in $(seq 2000); do echo out$i; echo err$i >&2; done"
    out, err, _ = await sh(vm, box, script)
    assert out == b"".join(b"out%d\n" % i for i in range(1, 2001))
    assert err == b"".join(b"err%d\n" % i for i in range(1, 2001))


async def test_every_byte_passes(vm: SandboxClient, box: str) -> None:
    data = bytes(range(256)) * 16
    assert (await sh(vm, box, "cat", data))[0] == data


async def test_attach_before_the_start_loses_nothing(vm: SandboxClient, disks: Disks) -> None:
    await vm.create_container("early", make_config("echo", "first"), disks.rootfs())
    ran = await collect(vm, "early", "init", None, start=True)
    assert ran.stdout == b"first\n"
    await vm.remove_container("early")


async def test_output_before_the_first_attach_waits_for_it(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("sh", "-c", "echo early; exit 4"))
    status = await asyncio.wait_for(vm.wait(box, pid), BOUND)
    assert status.code == 4
    ran = await collect(vm, box, pid, None)
    assert ran.stdout == b"early\n"


async def test_attach_to_a_process_that_is_over_is_refused(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("true"))
    await collect(vm, box, pid, None)
    with pytest.raises(Conflict, match="ended already"):
        await vm.attach(box, pid, stdin=False)


async def test_two_readers_get_the_same(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("sh", "-c", "read x; echo $x; echo end"), stdin=True)
    first, writer = await vm.attach(box, pid)
    second, other = await vm.attach(box, pid, stdin=False)
    writer.write(b"hello\n")
    both = await asyncio.gather(read_streams(first), read_streams(second))
    assert both[0] == both[1] == (b"hello\nend\n", b"")
    writer.close()
    other.close()


async def test_closing_an_attachment_only_detaches(vm: SandboxClient, box: str) -> None:
    """Known trouble 17: after a reconnect the process was gone or its output lost."""
    pid = fresh()
    script = "while read x; do echo got $x; done; echo end"
    await vm.exec(box, pid, process("sh", "-c", script), stdin=True)
    reader, writer = await vm.attach(box, pid, close_stdin=False)
    writer.write(b"one\n")
    assert b"got one" in await asyncio.wait_for(reader.readuntil(b"one\n"), BOUND)
    writer.close()
    await asyncio.sleep(0.5)
    reader, writer = await vm.attach(box, pid)
    writer.write(b"two\n")
    writer.write_eof()
    out, _ = await read_streams(reader)
    assert out == b"got two\nend\n"
    writer.close()


async def test_a_reader_that_does_not_read_stops_nobody_else(
    vm: SandboxClient, disks: Disks, box: str
) -> None:
    await vm.create_container("stuck", make_config("yes"), disks.rootfs())
    _, writer = await vm.attach("stuck", stdin=False)
    await vm.start_container("stuck")
    stuck = fresh("stuck")
    await vm.exec(box, stuck, process("sh", "-c", "yes"))
    _, other = await vm.attach(box, stuck, stdin=False)
    await asyncio.sleep(1)
    data = os.urandom(300_000)
    assert (await sh(vm, box, "cat", data))[0] == data
    assert (await run(vm, disks.rootfs(), "cat", stdin=data, cid="free")).stdout == data
    writer.close()
    other.close()
    await vm.signal(box, stuck, 9)
    await vm.signal("stuck", "init", 9)
    assert (await asyncio.wait_for(vm.wait("stuck"), BOUND)).code == 137
    await vm.remove_container("stuck")


async def test_a_slow_reader_gets_everything(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("sh", "-c", "head -c 400000 /dev/zero; echo -n E"))
    reader, writer = await vm.attach(box, pid, stdin=False)
    await asyncio.sleep(5)
    out, _ = await read_streams(reader)
    assert len(out) == 400_001
    assert out.endswith(b"E")
    writer.close()


async def test_a_child_that_keeps_stdout_open_does_not_hold_the_end_up(
    vm: SandboxClient, box: str
) -> None:
    async with asyncio.timeout(20):
        out, _, code = await sh(vm, box, "sleep 300 & echo parent; exit 5")
    assert (out, code) == (b"parent\n", 5)
    await sh(vm, box, "pkill -x sleep -n")


async def test_a_terminal(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    keys: dict[str, Any] = {"terminal": True, "consoleSize": {"height": 31, "width": 97}}
    await vm.exec(
        box, pid, process("sh", "-c", "stty size; tty; read x; echo =$x=", **keys), stdin=True
    )
    reader, writer = await vm.attach(box, pid)
    seen = await asyncio.wait_for(reader.readuntil(b"pts/0\r\n"), BOUND)
    assert seen == b"31 97\r\n/dev/pts/0\r\n"
    writer.write(b"hi\r")
    rest = await asyncio.wait_for(reader.read(), BOUND)
    assert rest == b"hi\r\n=hi=\r\n"
    assert (await vm.wait(box, pid)).code == 0
    writer.close()


async def test_a_terminal_that_changes_its_size_tells_the_process(
    vm: SandboxClient, box: str
) -> None:
    pid = fresh()
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done"
    await vm.exec(box, pid, process("sh", "-c", script, terminal=True), stdin=True)
    reader, writer = await vm.attach(box, pid)
    await asyncio.wait_for(reader.readuntil(b"ready\r\n"), BOUND)
    await vm.resize(box, pid, 50, 132)
    assert await asyncio.wait_for(reader.read(), BOUND) == b"50 132\r\n"
    writer.close()


async def test_control_c_in_a_terminal_interrupts(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(
        box, pid, process("sh", "-c", "echo on; exec sleep 300", terminal=True), stdin=True
    )
    reader, writer = await vm.attach(box, pid)
    await asyncio.wait_for(reader.readuntil(b"on\r\n"), BOUND)
    writer.write(b"\x03")
    status = await asyncio.wait_for(vm.wait(box, pid), BOUND)
    assert (status.code, status.signal) == (130, 2)
    writer.close()


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["nosuchprogram"], 127, 'exec: "nosuchprogram": executable file not found in $PATH'),
        (["/no/such"], 127, 'exec: "/no/such": no such file or directory'),
        (["/etc"], 126, 'exec: "/etc": permission denied'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_program_that_can_not_run(
    vm: SandboxClient, disks: Disks, box: str, args: list[str], code: int, text: str
) -> None:
    with pytest.raises(ProgramError) as caught:
        await vm.exec(box, fresh(), process(*args))
    assert (caught.value.exit_code, caught.value.message) == (code, text)
    with pytest.raises(ProgramError) as caught:
        await vm.create_container("bad", make_config(*args), disks.rootfs())
    assert (caught.value.exit_code, caught.value.message) == (code, text)
    assert "bad" not in (await vm.info())["containers"]


async def test_environment_directory_and_user(vm: SandboxClient, box: str) -> None:
    keys: dict[str, Any] = {
        "env": ["PATH=/bin", 'A=ä "quoted" $X'],
        "cwd": "/tmp",
        "user": {"username": "app"},
    }
    out, _, _ = await sh(vm, box, 'id -u; id -G; pwd; echo $HOME; echo "$A"', **keys)
    lines = out.decode().splitlines()
    assert lines == ["1000", "1000 2000", "/tmp", "/home/app", 'ä "quoted" $X']


async def test_bytes_that_are_no_text_reach_the_program(vm: SandboxClient, box: str) -> None:
    odd = b"\xff\xfe\x80".decode(errors="surrogateescape")
    ran = await execute(vm, box, fresh(), process("sh", "-c", "printf %s $0 | od -An -tx1", odd))
    assert ran.stdout.split() == [b"ff", b"fe", b"80"]


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ({"username": "nobody-here"}, "unable to find user nobody-here"),
        ({"username": "app:nogroup-here"}, "nogroup-here"),
    ],
)
async def test_an_unknown_user(
    vm: SandboxClient, box: str, user: dict[str, str], text: str
) -> None:
    with pytest.raises(HyperError, match=text) as caught:
        await vm.exec(box, fresh(), process("true", user=user))
    assert caught.value.exit_code == 125


async def test_numeric_users_need_no_passwd(vm: SandboxClient, box: str) -> None:
    out, _, _ = await sh(
        vm,
        box,
        "id -u; id -g; id -G; umask",
        user={"uid": 4321, "gid": 99, "additionalGids": [7], "umask": 0o77},
    )
    assert out.split() == [b"4321", b"99", b"99", b"7", b"0077"]


async def test_capabilities_limits_and_no_new_privileges(vm: SandboxClient, box: str) -> None:
    keys: dict[str, Any] = {
        "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}],
        "noNewPrivileges": True,
        "oomScoreAdj": 321,
    }
    script = "cat /proc/self/status /proc/self/oom_score_adj; ulimit -n; ulimit -Hn"
    out, _, _ = await sh(vm, box, script, **keys)
    text = out.decode()
    for name in ("CapBnd", "CapEff", "CapPrm"):
        assert re.search(rf"{name}:\s+0*20\b", text), text
    assert re.search(r"CapInh:\s+0+\b", text)
    assert re.search(r"NoNewPrivs:\s+1", text)
    assert text.split()[-3:] == ["321", "123", "456"]


async def test_what_does_not_exist_is_named(vm: SandboxClient, box: str) -> None:
    with pytest.raises(NotFound, match="no such container: missing"):
        await vm.exec("missing", "x", process("true"))
    with pytest.raises(NotFound, match="no such process"):
        await vm.wait(box, "missing")
    with pytest.raises(NotFound):
        await vm.signal(box, "missing", 9)
    with pytest.raises(NotFound):
        await vm.attach("missing")
    with pytest.raises(NotFound):
        await vm.remove_container("missing")


async def test_ids_that_are_taken_or_wrong(vm: SandboxClient, box: str, disks: Disks) -> None:
    with pytest.raises(Conflict, match="in use"):
        await vm.create_container(box, make_config("true"), disks.rootfs())
    with pytest.raises(Conflict):
        await vm.exec(box, "init", process("true"))
    for wrong in ("../x", "", "a b", ".x"):
        with pytest.raises(BadRequest):
            await vm.create_container(wrong, make_config("true"), disks.rootfs())
        with pytest.raises(BadRequest):
            await vm.exec(box, wrong, process("true"))


async def test_a_bad_configuration_is_named_and_leaves_nothing(
    vm: SandboxClient, disks: Disks
) -> None:
    before = (await vm.info())["containers"]
    for change, text in (
        ({"mounts": [{"destination": ""}]}, r"mounts\[0\]\.destination"),
        ({"process": {"args": []}}, r"process\.args"),
        ({"process": "x"}, "process"),
        ({"linux": {"namespaces": [{"type": "odd"}]}}, r"linux\.namespaces\[0\]"),
        ({"mounts": [{"destination": "/x", "type": "bind", "source": "/etc"}]}, "share"),
    ):
        with pytest.raises(BadRequest, match=text):
            await vm.create_container("bad", {**make_config("true"), **change}, disks.rootfs())
    with pytest.raises(BadRequest, match="cannot open disk image /missing"):
        await vm.create_container("bad", make_config("true"), disks.rootfs(Path("/missing")))
    with pytest.raises(HyperError, match="/no/where/log"):
        await vm.create_container(
            "bad", make_config("true"), disks.rootfs(), log={"path": "/no/where/log"}
        )
    assert (await vm.info())["containers"] == before


async def test_a_raw_request_that_makes_no_sense_is_refused(vm: SandboxClient, box: str) -> None:
    for line in (
        b"\n",
        b"{\n",
        b"[]\n",
        b'{"op": "fly"}\n',
        b"{}\n",
        b'{"op": 5}\n',
        b"\xff\n",
        b'{"op": "signal", "container": "box", "signal": 99}\n',
        b'{"op": "resize", "container": "box", "rows": "x", "cols": 1}\n',
        b'{"op": "exec", "container": "box", "process": "q", "spec": []}\n',
    ):
        reader, writer = await asyncio.open_unix_connection(str(vm.state_dir / "sandbox.sock"))
        writer.write(line)
        answer = await asyncio.wait_for(reader.read(), BOUND)
        code = b'"not_supported"' if b"fly" in line else b'"bad_request"'
        assert code in answer, (line, answer)
        writer.close()
    assert (await sh(vm, box, "echo fine"))[0] == b"fine\n"


async def test_frames_of_the_two_streams_are_dockers(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("sh", "-c", "echo x >&2"))
    reader, writer = await vm.attach(box, pid, stdin=False)
    assert await asyncio.wait_for(reader.read(), BOUND) == struct.pack(">BxxxI", 2, 2) + b"x\n"
    writer.close()


async def test_a_process_that_has_ended_takes_no_signal(vm: SandboxClient, box: str) -> None:
    pid = fresh()
    await vm.exec(box, pid, process("true"))
    await vm.wait(box, pid)
    with pytest.raises(NotRunning, match="ended already"):
        await vm.signal(box, pid, 15)
