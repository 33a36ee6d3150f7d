"""What goes wrong with a VM is said at once, in one line, and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest, Conflict, HyperError, NotFound, VMError
from hypercontainer.guest import kernel
from hypercontainer.sandbox import SandboxClient, VMConfig, connect, launch, read_state
from hypercontainer.system import memfd, processes
from hyperkernel.initrd import initrd
from tests.e2e import leaks
from tests.e2e.engine import ACCEL, SLOWNESS
from tests.e2e.rootfs import make_config, make_tree, process
from tests.e2e.vms import BOUND, Disks, collect, execute, run, sandbox

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bad_initrd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An initrd whose init misbehaves as BADGUEST says."""
    directory = tmp_path_factory.mktemp("bad")
    init = directory / "init"
    source = Path(__file__).with_name("bad_guest.c")
    subprocess.run(
        ["musl-gcc", "-static", "-Os", "-s", "-o", str(init), str(source)], check=True, timeout=60
    )
    modules = Path(kernel.find().kernel).with_name("modules")
    needed = sorted(modules.iterdir()) if modules.exists() else []
    (directory / "initrd").write_bytes(initrd(init, needed))
    return str(directory / "initrd")


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


def bad(how: str, initrd: str, **keys: Any) -> VMConfig:
    return VMConfig(
        **{
            "accel": ACCEL,
            "initrd": initrd,
            "append": f"BADGUEST={how}",
            "boot_timeout": 30 * SLOWNESS,
            "template": "off",
            **keys,
        }
    )


async def state_when(state_dir: Path, **wanted: Any) -> dict[str, Any]:
    """The state once it is as wanted."""
    async with asyncio.timeout(BOUND):
        while True:
            state = read_state(state_dir)
            if state and all(state[key] == value for key, value in wanted.items()):
                return state
            await asyncio.sleep(0.01)


def one_line(error: HyperError) -> str:
    assert len(error.message.splitlines()) == 1, error.message
    return error.message


async def booting(state_dir: Path, text: str) -> dict[str, Any]:
    """The state once the guest printed `text`."""
    state = await state_when(state_dir, status="booting")
    async with asyncio.timeout(BOUND):
        while text not in (state_dir / "console.log").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return state


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_vmm_that_dies_during_the_boot_is_reported_within_a_second(
    tmp_path: Path, bad_initrd: str, signum: int
) -> None:
    """Known trouble 7: the user waited 30 s for a process that was dead."""
    with leaks.none(tmp_path, files=False):
        launching = asyncio.create_task(launch("x", tmp_path / "vm", bad("silent", bad_initrd)))
        state = await booting(tmp_path / "vm", "bad guest: silent")
        killed = time.monotonic()
        os.kill(state["vmm_pid"], signum)
        with pytest.raises(VMError) as caught:
            await launching
        assert time.monotonic() - killed < 1.0
    assert f"QEMU was killed by signal {int(signum)}" in one_line(caught.value)
    assert "last line: bad guest: silent" in caught.value.message
    assert "bad guest: silent" in caught.value.detail


@pytest.mark.usefixtures("hyperkernel")
async def test_a_guest_that_never_answers_is_given_up_in_time(
    tmp_path: Path, bad_initrd: str
) -> None:
    """Known trouble 8: the bound was fixed; it can be set."""
    began = time.monotonic()
    with leaks.none(tmp_path, files=False):
        with pytest.raises(VMError) as caught:
            await launch("x", tmp_path / "vm", bad("silent", bad_initrd, boot_timeout=6))
        assert time.monotonic() - began < 9
    assert "no answer in 6" in one_line(caught.value)
    assert "bad guest: silent" in caught.value.message


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("garbage", "broke the protocol"),
        ("deep", "broke the protocol"),
        ("version", "hyperstart speaks protocol 2, this host 1"),
        ("panic", "the guest ended the virtual machine"),
    ],
)
async def test_a_guest_that_misbehaves_at_the_boot(
    tmp_path: Path, bad_initrd: str, how: str, text: str
) -> None:
    with leaks.none(tmp_path, files=False), pytest.raises(VMError) as caught:
        await launch("x", tmp_path / "vm", bad(how, bad_initrd))
    assert text in one_line(caught.value)
    state = read_state(tmp_path / "vm")
    assert state is not None
    assert (state["status"], state["reason"]) == ("stopped", caught.value.message)


async def test_a_guest_that_does_not_answer_its_first_request(
    tmp_path: Path, bad_initrd: str
) -> None:
    with leaks.none(tmp_path, files=False), pytest.raises(VMError) as caught:
        await launch("x", tmp_path / "vm", bad("deaf", bad_initrd, boot_timeout=3))
    one_line(caught.value)


@pytest.mark.parametrize("how", ["late", "streams"])
async def test_a_guest_that_turns_hostile_later_is_ended_with_the_reason(
    tmp_path: Path, bad_initrd: str, how: str
) -> None:
    with leaks.none(tmp_path, files=False):
        client = await launch("x", tmp_path / "vm", bad(how, bad_initrd, share=True))
        rootfs = {"kind": "share", "path": str(tmp_path)}
        await client.create_container("c", make_config("x"), rootfs)
        waiting = asyncio.create_task(client.wait("c"))
        state = await state_when(tmp_path / "vm", status="stopped", alive=False)
        ended = await waiting
    assert "the guest broke the protocol" in state["reason"]
    assert ended.code == 137
    assert "broke the protocol" in ended.reason
    assert state["containers"]["c"]["exit_code"] == 137
    with pytest.raises(VMError, match="broke the protocol"):
        await client.info()


async def test_a_guest_that_floods_with_events_stops_nothing(
    tmp_path: Path, bad_initrd: str
) -> None:
    with leaks.none(tmp_path, files=False):
        client = await launch("x", tmp_path / "vm", bad("events", bad_initrd, share=True))
        assert (await asyncio.wait_for(client.info(), 20))["status"] == "running"
        await client.kill()


async def test_a_guest_that_prints_for_ever_fills_no_disk(tmp_path: Path, bad_initrd: str) -> None:
    with pytest.raises(VMError, match=r"console.s last line: \S") as caught:
        await launch("x", tmp_path / "vm", bad("loud", bad_initrd, boot_timeout=8))
    assert "\x1b" not in caught.value.message + caught.value.detail
    logs = list((tmp_path / "vm").glob("*.log*"))
    assert sum(path.stat().st_size for path in logs) <= 2 * 256 * 1024 + 64 * 1024


async def test_a_kernel_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"no kernel" * 1000)
    with leaks.none(tmp_path, files=False), pytest.raises(VMError) as caught:
        await launch(
            "x",
            tmp_path / "vm",
            VMConfig(accel=ACCEL, template="off", kernel=str(tmp_path / "kernel")),
        )
    assert "QEMU exited with code 1" in one_line(caught.value)


@pytest.mark.parametrize("what", ["kernel", "initrd"])
async def test_a_boot_file_that_is_missing(tmp_path: Path, what: str) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(NotFound, match=f"guest {what} {path} not found"):
        config = VMConfig.from_json({"accel": ACCEL, "template": "off", what: path})
        await launch("x", tmp_path / "vm", config)


async def test_a_missing_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPER_QEMU", "qemu-that-is-missing")
    with pytest.raises(VMError, match="apt-get install qemu-system-x86"):
        await launch("x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"))


async def test_what_can_not_be_made_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="memory"):
        await launch("x", tmp_path / "vm", VMConfig(memory_mib=1))
    with pytest.raises(BadRequest, match="sandbox id"):
        await launch("../x", tmp_path / "vm", VMConfig())
    assert not (tmp_path / "vm").exists()


async def test_a_second_sandbox_in_one_directory(tmp_path: Path) -> None:
    async with sandbox(tmp_path) as client:
        with pytest.raises(Conflict, match=r"runs in .* already"):
            await launch("y", client.state_dir, VMConfig(accel=ACCEL, template="off"))
        assert (await client.info())["status"] == "running"


async def start_sleeper(client: SandboxClient, disks: Disks) -> None:
    await client.create_container("c", make_config("sleep", "3600"), disks.rootfs())
    await client.start_container("c")


async def test_a_killed_vmm_unblocks_everybody_with_the_reason(
    tmp_path: Path, disks: Disks
) -> None:
    """Known trouble 24: after kill -9 of QEMU, clients and delete hung."""
    with leaks.none(tmp_path, files=False):
        client = await launch("x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"))
        await start_sleeper(client, disks)
        waiting = asyncio.create_task(client.wait("c"))
        attached = asyncio.create_task(collect(client, "c", "init", None))
        await asyncio.sleep(0.2)
        os.kill((await client.info())["vmm_pid"], signal.SIGKILL)
        ended = await asyncio.wait_for(waiting, 5)
        assert (ended.code, ended.signal) == (137, 9)
        assert ended.reason == "QEMU was killed by signal 9"
        assert (await asyncio.wait_for(attached, 5)).stdout == b""
        state = await state_when(tmp_path / "vm", alive=False)
    assert (state["status"], state["reason"]) == ("stopped", "QEMU was killed by signal 9")
    with pytest.raises(VMError, match="QEMU was killed"):
        await client.exec("c", "x", process("true"))
    with pytest.raises(NotFound):
        await connect(tmp_path / "vm")


async def test_a_killed_sandbox_takes_its_vm_with_it(tmp_path: Path, disks: Disks) -> None:
    with leaks.none(tmp_path, files=False):
        client = await launch(
            "x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off", share=True)
        )
        await start_sleeper(client, disks)
        waiting = asyncio.create_task(client.wait("c"))
        await asyncio.sleep(0.2)
        info = await client.info()
        os.kill(info["pid"], signal.SIGKILL)
        with pytest.raises(VMError, match="gone"):
            await asyncio.wait_for(waiting, 5)
        state = await state_when(tmp_path / "vm", alive=False)
        assert state["containers"]["c"]["status"] == "stopped"
        assert state["containers"]["c"]["exit_code"] == 137
        async with asyncio.timeout(5):
            while processes.alive(info["vmm_pid"], info["vmm_started"]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    again = await launch("x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"))
    assert (await run(again, disks.rootfs(), "echo", "again")).stdout == b"again\n"
    await again.kill()


async def test_a_sandbox_outlives_its_launcher(tmp_path: Path, disks: Disks) -> None:
    """Known trouble 26: a restart of the daemon lost its containers."""
    program = f"""
import asyncio
from pathlib import Path
from hypercontainer.sandbox import VMConfig, launch
async def main():
    await launch("x", Path({str(tmp_path / "vm")!r}), VMConfig(accel={ACCEL!r}, template="off"))
    print("up", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert launcher.stdout is not None
    up = await asyncio.wait_for(launcher.stdout.readline(), BOUND)
    launcher.kill()
    await launcher.wait()
    assert up == b"up\n"
    client = await connect(tmp_path / "vm")
    await start_sleeper(client, disks)
    assert (await execute(client, "c", "x", process("echo", "here"))).stdout == b"here\n"
    await client.kill()
    assert (await state_when(tmp_path / "vm", alive=False))["status"] == "stopped"


async def test_a_launch_that_is_cancelled_leaves_nothing(tmp_path: Path, bad_initrd: str) -> None:
    with leaks.none(tmp_path, files=False):
        launching = asyncio.create_task(launch("x", tmp_path / "vm", bad("silent", bad_initrd)))
        await booting(tmp_path / "vm", "bad guest")
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_a_launch_that_is_cancelled_at_any_time_leaves_nothing(
    tmp_path: Path, delay: float
) -> None:
    with leaks.none(tmp_path, files=False):
        launching = asyncio.create_task(
            launch("x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"))
        )
        await asyncio.sleep(delay)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching


async def test_long_and_odd_directories(tmp_path: Path) -> None:
    odd = tmp_path / ("d" * 120) / "with space, comma=x,y"
    odd.mkdir(parents=True)
    tree = make_tree(odd / "tree")
    async with sandbox(odd, share=True) as client:
        ran = await run(client, {"kind": "share", "path": str(tree)}, "cat", "/etc/group")
        assert b"app:x:1000" in ran.stdout


async def test_kvm_that_can_not_run_a_guest_is_an_error_or_a_fallback_that_says_why(
    tmp_path: Path,
) -> None:
    """Known troubles 1 and 3: raw errors where KVM is missing or can't be used."""
    try:
        client = await launch("x", tmp_path / "kvm", VMConfig(accel="kvm", template="off"))
    except VMError as error:
        text = one_line(error)
        assert text.startswith("kvm can't be used: ")
        assert "accel=auto" in text
    else:
        await client.kill()
        pytest.skip("KVM runs guests here")
    began = time.monotonic()
    client = await launch("x", tmp_path / "auto", VMConfig(accel="auto", template="off"))
    assert time.monotonic() - began < 15
    state = await client.info()
    await client.kill()
    assert state["accel"] == "tcg"
    assert state["accel_reason"]
    assert state["accel_reason"] in text


async def test_requests_while_the_guest_boots_wait_for_it(tmp_path: Path, disks: Disks) -> None:
    with leaks.none(tmp_path, files=False):
        client = await launch(
            "x", tmp_path / "vm", VMConfig(accel=ACCEL, template="off"), wait=False
        )
        ran = await run(client, disks.rootfs(), "echo", "soon")
        assert ran.stdout == b"soon\n"
        await client.kill()


async def test_requests_to_a_guest_that_never_comes_up_get_its_error(
    tmp_path: Path, bad_initrd: str, disks: Disks
) -> None:
    with leaks.none(tmp_path, files=False):
        config = bad("silent", bad_initrd, boot_timeout=2)
        client = await launch("x", tmp_path / "vm", config, wait=False)
        with pytest.raises(VMError, match="no answer in 2 s"):
            await client.create_container("c", make_config("true"), disks.rootfs())
        await state_when(tmp_path / "vm", alive=False)


def caught_in_jail(status: str, root: Path, *, share: bool) -> None:
    """What a guest that breaks out of QEMU would find."""
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    kept = int(fields["CapEff"], 16)
    assert kept == int(fields["CapBnd"], 16)
    uids = {int(uid) for uid in fields["Uid"].split()}
    if share:
        assert uids == {0}
        assert kept & ~(1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 27) == 0
    else:
        assert kept == 0
        assert min(uids) > 1 << 30
    assert not (root / "etc" / "shadow").exists()
    assert not (root / "root").exists()
    assert not (root / "var" / "log").exists()


@pytest.mark.parametrize("share", [False, True])
async def test_qemu_has_no_more_rights_than_it_needs(tmp_path: Path, share: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("privileges can be dropped by root only")
    async with sandbox(tmp_path, share=share) as client:
        pid = (await client.info())["vmm_pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        caught_in_jail(status, Path(f"/proc/{pid}/root"), share=share)
        descriptors = {path: os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        known = ("/dev/", str(client.state_dir / "share"))
        files = [p for p, d in descriptors.items() if d.startswith("/") and not d.startswith(known)]
        assert {descriptors[path] for path in files} <= {"/memfd:hyper-starter (deleted)"}
        for path in files:
            with path.open("rb") as file:
                assert memfd.sealed(file.fileno())


async def test_two_vms_have_users_of_their_own(tmp_path: Path) -> None:
    async with sandbox(tmp_path) as one, sandbox(tmp_path) as two:
        owners = {
            os.stat(f"/proc/{(await client.info())['vmm_pid']}").st_uid for client in (one, two)
        }
    assert len(owners) == 2


async def test_the_kvm_device_is_left_as_it_was(tmp_path: Path) -> None:
    """Known trouble 4: after the first run the second had no access."""
    if not Path("/dev/kvm").exists():
        pytest.skip("no /dev/kvm here")

    def about() -> tuple[int, int, int, list[str]]:
        found = os.stat("/dev/kvm")
        return found.st_mode, found.st_uid, found.st_gid, os.listxattr("/dev/kvm")

    before = about()
    for _ in range(2):
        async with sandbox(tmp_path, accel="auto") as client:
            assert (await client.info())["status"] == "running"
        assert about() == before
