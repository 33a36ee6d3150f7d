"""A share by virtiofs: what it can that 9p can't; its server, a process with an end and rights."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor import virtiofs
from hypercontainer.sandbox import SandboxClient, VMConfig, launch
from hypercontainer.sandbox import template as maker
from hypercontainer.sandbox.config import SHARE_DRIVERS
from hypercontainer.system import processes
from tests.e2e.command_line import until
from tests.e2e.engine import ARCHITECTURE
from tests.e2e.rootfs import make_config, make_tree, process
from tests.e2e.vms import BOUND, Ran, execute, run, sandbox

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a share needs root"),
    pytest.mark.skipif(not virtiofs.find(), reason="virtiofsd is not installed"),
]
_DAC_OVERRIDE, _SYS_ADMIN = 1 << 1, 1 << 21


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("root") / "tree")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxClient]:
    """A clone, as most VMs are: its device is plugged in afterwards."""
    config = VMConfig(accel="tcg", share=True, share_driver="virtiofs", architecture=ARCHITECTURE)
    await asyncio.to_thread(maker.make, config)
    directory = tmp_path_factory.mktemp("vm")
    async with sandbox(directory, share=True, share_driver="virtiofs", template="use") as client:
        assert (await client.info())["template"]
        yield client


def on(tree: Path) -> dict[str, Any]:
    return {"kind": "share", "path": str(tree)}


def bound(config: dict[str, Any], *directories: Path, **options: str) -> dict[str, Any]:
    """The configuration with directories at /v0, /v1, …"""
    for number, directory in enumerate(directories):
        mount = {"destination": f"/v{number}", "type": "bind", "source": str(directory)}
        config["mounts"].append({**mount, "options": ["rbind", options.get("mode", "rw")]})
    return config


async def script(vm: SandboxClient, tree: Path, text: str, *directories: Path) -> Ran:
    config = bound(make_config("sh", "-c", text), *directories)
    return await run(vm, on(tree), config=config)


async def test_special_files_can_be_made(vm: SandboxClient, tree: Path, tmp_path: Path) -> None:
    """QEMU's 9p server refuses these."""
    text = (
        "cd /v0 && mkfifo fifo && mknod null c 1 3 && (echo through >fifo & cat fifo) &&"
        " echo x >null && ln -s a link && stat -c %t:%T null"
    )
    ran = await script(vm, tree, text, tmp_path)
    assert (ran.stdout, ran.stderr) == (b"through\n1:3\n", b"")
    assert (tmp_path / "fifo").is_fifo() and (tmp_path / "null").is_char_device()


@pytest.fixture
def matrix(tmp_path: Path) -> None:
    source = Path(__file__).with_name("share_matrix.c")
    command = ["musl-gcc", "-static", "-o", str(tmp_path / "matrix"), str(source)]
    subprocess.run(command, check=True, timeout=60)


async def test_what_programs_do(
    vm: SandboxClient, tree: Path, tmp_path: Path, matrix: None
) -> None:
    ran = await script(vm, tree, "/v0/matrix /v0", tmp_path)
    assert ran.stdout == b"all\n"
    assert (tmp_path / "map").read_bytes()[4096:4102] == b"mapped"
    assert os.getxattr(tmp_path / "map", "user.test") == b"value"


async def test_directories_are_file_systems_of_their_own(
    vm: SandboxClient, tree: Path, tmp_path: Path
) -> None:
    """Two files of different file systems of the host may have the same inode number."""
    (tmp_path / "file").write_text("one file\n")
    ran = await script(vm, tree, "stat -c %d / /v0 /v1; cat /v0/file", tmp_path, Path("/dev/shm"))
    *devices, content = ran.stdout.split(b"\n")[:4]
    assert len(set(devices)) == 3 and content == b"one file"


async def test_each_side_sees_the_others_changes(
    vm: SandboxClient, tree: Path, tmp_path: Path
) -> None:
    config = bound(make_config("sleep", "1000"), tmp_path)
    await vm.create_container("both", config, on(tree))
    await vm.start_container("both")
    shown = "cat /v0/a; stat -c %s:%u:%a /v0/a; ls /v0"
    for number, text in enumerate(("first\n", "the second\n")):
        (tmp_path / "a").write_text(text)
        os.chown(tmp_path / "a", number, 0)
        (tmp_path / f"new{number}").touch()
        ran = await execute(vm, "both", f"e{number}", process("sh", "-c", shown))
        lines = ran.stdout.decode().splitlines()
        assert lines[0] + "\n" == text
        assert lines[1] == f"{len(text)}:{number}:644"
        assert f"new{number}" in lines[2:]
    await execute(vm, "both", "w", process("sh", "-c", "echo guest > /v0/b; chown 5:6 /v0/b"))
    status = (tmp_path / "b").stat()
    assert (tmp_path / "b").read_text() == "guest\n" and (status.st_uid, status.st_gid) == (5, 6)
    await vm.remove_container("both", force=True)


@pytest.mark.parametrize("driver", SHARE_DRIVERS)
async def test_read_only_holds_on_the_host(
    vm: SandboxClient, tree: Path, tmp_path: Path, driver: str
) -> None:
    """Also against a guest that takes the mount's read-only flag off."""
    given = tmp_path / "given"
    (given / "below").mkdir(parents=True)
    text = "mount -o remount,rw /v0; touch /v0/x; touch /v0/below/x"
    config = bound(make_config("sh", "-c", text), given, mode="ro")
    async with contextlib.AsyncExitStack() as stack:
        if driver != "virtiofs":
            vm = await stack.enter_async_context(sandbox(tmp_path, share=True, share_driver=driver))
        ran = await run(vm, on(tree), config=config)
    assert ran.status.code != 0 and ran.stderr.count(b"Read-only file system") == 2
    assert os.listdir(given) == ["below"] and not os.listdir(given / "below")


async def test_nothing_of_a_removed_container_is_held(
    vm: SandboxClient, tree: Path, tmp_path: Path
) -> None:
    """What the guest's memory knows of files keeps them open here, and file systems in use."""
    for number in range(100):
        (tmp_path / f"file{number}").touch()
    _, server = await pids(vm)
    before = len(os.listdir(f"/proc/{server}/fd"))
    config = bound(make_config("sleep", "1000"), tmp_path)
    await vm.create_container("held", config, on(tree))
    await vm.start_container("held")
    await execute(vm, "held", "ls", process("ls", "-l", "/v0"))
    assert len(os.listdir(f"/proc/{server}/fd")) > before
    await vm.remove_container("held", force=True)
    await gone(lambda: len(os.listdir(f"/proc/{server}/fd")) <= before + 5)


async def test_qemu_serves_nothing_itself(vm: SandboxClient) -> None:
    """QEMU, which the guest talks to, has no rights; the server has those of owners, no more."""
    vmm, server = await pids(vm)
    assert capabilities(vmm) == 0
    kept = capabilities(server)
    assert kept & _DAC_OVERRIDE and not kept & _SYS_ADMIN
    root = Path(f"/proc/{server}/root")
    assert not (root / "etc").exists() and not (root / "proc").exists()


async def test_the_server_ends_with_its_vm(tmp_path: Path) -> None:
    async with sandbox(tmp_path, share=True, share_driver="virtiofs") as client:
        _, server = await pids(client)
        started = processes.start_time(server) or 0
    await gone(lambda: not processes.alive(server, started))


async def test_a_dead_server_ends_its_vm(tmp_path: Path, tree: Path) -> None:
    """The guest would hang for ever in whatever it asks of its share."""
    client = await launch(
        "dead",
        tmp_path / "vm",
        VMConfig(
            architecture=ARCHITECTURE,
            accel="tcg",
            template="off",
            share=True,
            share_driver="virtiofs",
        ),
    )
    try:
        _, server = await pids(client)
        await client.create_container("c", make_config("sleep", "1000"), on(tree))
        await client.start_container("c")
        os.kill(server, 9)
        status = await asyncio.wait_for(client.wait("c"), BOUND)
        assert status.code == 137 and "virtiofsd" in status.reason
    finally:
        await client.kill()


async def test_a_missing_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtiofs, "_PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HyperError, match="apt-get install qemu-system-common"):
        virtiofs.start(str(tmp_path), 2)


async def gone(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition, BOUND)


async def pids(vm: SandboxClient) -> tuple[int, int]:
    """QEMU, and virtiofsd proper, which the process that the sandbox started waits for."""
    info = await vm.info()
    for child in processes.children(info["pid"]):
        if b"virtiofsd" in Path(f"/proc/{child}/cmdline").read_bytes():
            (inner,) = processes.children(child)
            return info["vmm_pid"], inner
    raise AssertionError("no virtiofsd")


def capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["CapEff"], 16)
