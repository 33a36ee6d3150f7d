"""What is only true where Xen starts the VMs: the machine of `make lab-xen`, a dom0."""

import asyncio
import hashlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.guest import kernel
from hypercontainer.hypervisor import xen_driver
from hypercontainer.hypervisor.machine import bare_machine
from hypercontainer.sandbox import SandboxClient, end_orphans, read_state
from hypercontainer.system.processes import alive
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import wait_until
from tests.e2e.netns import NetHyperd, two_hosts
from tests.e2e.rootfs import make_config, make_tree
from tests.e2e.vms import Disks, run, sandbox

ENGINES = ("xenpv", "xen")
# Debian's kernel fits in this too. An emulated guest of an emulated machine takes its time.
SIZE = 256
BOOT = 500.0
# There where the guest's kernel takes more memory than it started with.
PLUGS = "/proc/sys/xen/balloon/hotplug_unpopulated"
# For wait_until. The emulation of a busy host gives the first imports little time.
START = 80.0

pytestmark = pytest.mark.timeout(1800)


def xl(*argv: str) -> str:
    done = subprocess.run(["xl", *argv], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def domains() -> list[str]:
    """Those that are ours."""
    names = [line.split()[0] for line in xl("list").splitlines()[1:]]
    return [name for name in names if name.startswith("hyper-")]


def backends() -> list[str]:
    """What the store has of devices, which loop devices have a file, and logs."""
    found = []
    for kind in ("vbd", "vif", "console", "9pfs"):
        said = subprocess.run(
            ["xenstore-ls", "-f", f"/local/domain/0/backend/{kind}"],
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        # The first domain's own console is xenconsoled's, which only has some for other domains.
        found += [line for line in said.splitlines() if line.count("/") > 6]
    loops = [str(path) for path in Path("/sys/block").glob("loop*/loop")]
    logs = [str(path) for path in Path("/var/log/xen").glob("*hyper*")]
    return [*found, *loops, *logs]


def processes() -> list[str]:
    """What is there for a domain; the first domain has a QEMU too."""
    done = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, timeout=60)
    return re.findall(r".*(?:xl create|-xen-domid [1-9]).*", done.stdout)


def nothing_left() -> None:
    wait_until(lambda: not (domains() or backends() or processes()), "nothing left", 60)


def test_this_is_a_dom0() -> None:
    assert "control_d" in Path("/proc/xen/capabilities").read_text()
    assert "Domain-0" in xl("list")


def test_xen_runs_paravirtual_guests_and_whole_ones_with_nested_pages() -> None:
    lines = (line.partition(":") for line in xl("info").splitlines())
    info = {name.strip(): value.strip() for name, _, value in lines}
    assert (info["xen_major"], info["xen_minor"]) == ("4", "17")
    assert {"pv", "hvm", "hap"} <= set(info["virt_caps"].split())


def test_the_guests_kernel_is_said() -> None:
    """Debian's does too, where hyperkernel-xen is not built."""
    image = kernel.find(flavour="xen")
    print(f"guest kernel: {image.kind}: {image.kernel}")
    assert image.kind in ("xen", "distribution")


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    return Disks(tmp_path_factory.mktemp("disks"))


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_container_on_disks_in_a_domain(tmp_path: Path, disks: Disks, engine: str) -> None:
    """Its boot is timed; data goes both ways, more than the rings hold; a pause holds it."""
    began = time.monotonic()
    async with sandbox(tmp_path, accel=engine, memory_mib=SIZE, boot_timeout=BOOT) as client:
        print(f"{engine}: boot to agent {time.monotonic() - began:.1f} s")
        state = read_state(client.state_dir)
        assert state is not None
        assert (state["accel"], state["template"]) == (engine, "")
        assert len(domains()) == 1
        data = os.urandom(30000)
        ran = await run(client, disks.rootfs(), "cat", stdin=data)
        assert (ran.stdout, ran.status.code) == (data, 0)
        await client.pause()
        assert "--p" in xl("list", domains()[0]).splitlines()[1].split()[4]
        await client.resume()
        ran = await run(client, disks.rootfs(), "sh", "-c", "echo out; exit 3")
        assert (ran.stdout, ran.status.code) == (b"out\n", 3)
        await client.shutdown(timeout=60.0)
    await asyncio.to_thread(nothing_left)


def test_whole_guests_of_the_usual_size_come_up_each_time() -> None:
    """With a thread for each emulated CPU one of five ends before its agent speaks."""
    image = kernel.find(flavour="xen")
    for _ in range(8):
        vmm = xen_driver.start(bare_machine("bare", "xen", image, jail="", memory_mib=128))
        try:
            assert select.select([vmm.control], [], [], BOOT)[0]
            assert vmm.control.recv(1), "the guest ended before its agent spoke"
        finally:
            vmm.discard()
    nothing_left()


async def test_cpus_and_memory_are_set(tmp_path: Path, disks: Disks) -> None:
    size = {"cpus": 2, "memory_mib": SIZE}
    async with sandbox(tmp_path, accel="xenpv", boot_timeout=BOOT, **size) as client:

        async def told(script: str) -> int:
            return int((await run(client, disks.rootfs(), "sh", "-c", script)).stdout)

        async def becomes(script: str, wanted: Callable[[int], bool]) -> None:
            deadline = time.monotonic() + 120
            while not wanted(found := await told(script)):
                assert time.monotonic() < deadline, found
                await asyncio.sleep(1)

        cpus, memory = "nproc", "sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"
        assert await told(cpus) == 2
        whole = await told(memory)
        await client.set_vm_size(cpus=1, memory_mib=SIZE - 64)
        assert await told(cpus) == 1
        await becomes(memory, lambda kib: kib <= whole - (56 << 10))
        await client.set_vm_size(cpus=2, memory_mib=SIZE)
        assert await told(cpus) == 2
        await becomes(memory, lambda kib: kib >= whole - (8 << 10))
        with pytest.raises(BadRequest, match="cpus: 3 is not between 1 and 2"):
            await client.set_vm_size(cpus=3)
        if await told(f"test -e {PLUGS}; echo $?") == 0:
            assert await client.grow(SIZE + 128) == SIZE + 128
            await becomes(memory, lambda kib: kib >= whole + (112 << 10))
        else:
            with pytest.raises(HyperError, match="the guest kernel's balloon of Xen plugs no"):
                await client.grow(SIZE + 128)


@pytest.mark.parametrize("engine", ENGINES)
async def test_root_and_volume_are_directories_of_the_host(tmp_path: Path, engine: str) -> None:
    """Both by 9p: read, written and made, seen on both sides; nothing serves them afterwards."""
    tree, volume = make_tree(tmp_path / "tree"), tmp_path / "volume"
    volume.mkdir()
    data = os.urandom(100_000)
    (volume / "in").write_bytes(data)
    script = (
        "cat /v/in >/copy && sync && sha256sum </copy && mkdir /v/made && echo x >/v/made/out &&"
        " chown 5:6 /v/made/out && ln -s made /v/link && mv /v/in /v/moved && exit 4"
    )
    config = make_config("sh", "-c", script)
    mount = {"destination": "/v", "type": "bind", "source": str(volume)}
    config["mounts"].append({**mount, "options": ["rbind", "rw"]})
    machine = {"accel": engine, "memory_mib": SIZE, "boot_timeout": BOOT, "share": True}
    async with sandbox(tmp_path, **machine) as client:
        assert any("-xen-domid" in line for line in processes())
        rootfs = {"kind": "share", "path": str(tree)}
        ran = await run(client, rootfs, config=config)
        assert (ran.stderr, ran.status.code) == (b"", 4)
        assert ran.stdout.split()[0] == hashlib.sha256(data).hexdigest().encode()
        await client.shutdown(timeout=60.0)
    assert (tree / "copy").read_bytes() == (volume / "moved").read_bytes() == data
    made = volume / "made" / "out"
    assert (made.read_text(), made.stat().st_uid, made.stat().st_gid) == ("x\n", 5, 6)
    assert (volume / "link").readlink() == Path("made")
    await asyncio.to_thread(nothing_left)


async def test_whoever_is_killed_leaves_no_domain(tmp_path: Path) -> None:
    for key in ("vmm_pid", "pid"):
        async with sandbox(tmp_path, accel="xenpv", memory_mib=SIZE, boot_timeout=BOOT) as client:
            state = read_state(client.state_dir)
            assert state is not None
            os.kill(int(state[key]), signal.SIGKILL)
            await asyncio.to_thread(nothing_left)


def kill_all_of(client: SandboxClient) -> None:
    """Kill a sandbox and what keeps its domain, so that neither sees the other's end."""
    state = read_state(client.state_dir)
    assert state is not None
    keeper, owner = int(state["vmm_pid"]), int(state["pid"])
    os.kill(owner, signal.SIGSTOP)
    os.kill(keeper, signal.SIGKILL)
    os.kill(owner, signal.SIGKILL)
    ends = state["pid"], state["started"]
    wait_until(lambda: not alive(*ends), "the sandbox's end")


async def test_a_domain_of_nobody_is_told_and_ended(tmp_path: Path) -> None:
    async with sandbox(tmp_path, accel="xenpv", memory_mib=SIZE, boot_timeout=BOOT) as client:
        (name,) = domains()
        assert await asyncio.to_thread(end_orphans) == []
        await asyncio.to_thread(kill_all_of, client)
        assert domains() == [name]
        hyper = Hyper(tmp_path / "no.sock")
        assert f"domains whose sandbox was killed: {name}" in hyper("doctor").stdout.decode()
        assert await asyncio.to_thread(end_orphans) == [name]
        await asyncio.to_thread(nothing_left)


async def test_what_xen_can_not_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match=r"Xen \(xenpv\) has no user-mode network"):
        async with sandbox(tmp_path, accel="xenpv", network="user"):
            pass
    with pytest.raises(NotSupported, match=r"Xen \(xenpv\) can't give .* by virtiofs: it does by"):
        async with sandbox(tmp_path, accel="xenpv", share=True, share_driver="virtiofs"):
            pass
    assert not domains()


@pytest.fixture
def hyperd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NetHyperd]:
    """A hyperd with a network of its own; PV guests, unless a test says otherwise."""
    engine = getattr(request, "param", "xenpv")
    with two_hosts() as (host, _):
        daemon = NetHyperd(tmp_path, host)
        try:
            daemon.config.write_text(f"Hypervisor = {engine}\nBootTimeout = 500\n")
            daemon.start(bound=START)
            daemon.load_image()
            yield daemon
        finally:
            daemon.close()


def test_a_pod_of_two_containers_and_a_restart_of_hyperd(hyperd: NetHyperd) -> None:
    pod = hyperd.outlives_a_restart("xenpv", bound=START, resource={"memory": SIZE})
    hyperd.client.stop_pod(pod)
    hyperd.client.remove_pod(pod)
    nothing_left()


def test_hyper_run(hyperd: NetHyperd) -> None:
    hyper = Hyper(hyperd.socket)
    done = hyper("run", "--rm", f"--memory={SIZE}", "busybox", "echo", "from Xen", timeout=1200)
    assert (done.stdout, done.stderr, done.returncode) == (b"from Xen\n", b"", 0)
    nothing_left()


def kib_of(hyperd: NetHyperd, box: str) -> int:
    """The memory of a container's VM."""
    said = hyperd.execute(box, "grep", "MemTotal", "/proc/meminfo")[1]
    return int(said.split()[1])


@pytest.mark.parametrize("hyperd", ["auto"], indirect=True)
def test_hyper_update_sets_memory_and_cpus_and_hyperd_clears_up(hyperd: NetHyperd) -> None:
    """Of a PVH guest, which `auto` is here; then sandbox and keeper are killed at once."""
    hyper = Hyper(hyperd.socket)
    size = {"memory": SIZE, "vcpu": 2}
    box = hyperd.run("sleep", "100000", name="box", pod_resource=size)
    vm = hyperd.vm_of(box)
    assert vm["Accel"] == "xen"
    before = kib_of(hyperd, box)

    hyper.text("update", f"--vm-memory={SIZE - 64}m", "--vm-cpus=1", "box")
    assert kib_of(hyperd, box) <= before - (56 << 10)
    assert hyperd.execute(box, "nproc") == (0, "1\n")
    hyper.text("update", f"--vm-memory={SIZE}m", "--vm-cpus=2", "box")
    assert kib_of(hyperd, box) >= before - (8 << 10)
    assert hyperd.execute(box, "nproc") == (0, "2\n")
    refused = hyper("update", "--vm-cpus=3", "box", timeout=600)
    assert b"cpus: 3 is more than the 2" in refused.stderr
    more = hyper("update", f"--vm-memory={SIZE + 128}m", "box", timeout=1200)
    if hyperd.execute(box, "test", "-e", PLUGS)[0] == 0:
        assert (more.stderr, more.returncode) == (b"", 0)
        assert kib_of(hyperd, box) >= before + (112 << 10)
    else:
        assert b"the guest kernel's balloon of Xen plugs no memory" in more.stderr
        assert kib_of(hyperd, box) <= before
    assert hyperd.execute(box, "true")[0] == 0

    state = hyperd.state / "sandboxes" / hyperd.client.inspect_container(box)["Pod"]
    kill_all_of(SandboxClient(state))
    wait_until(lambda: hyperd.state_of(box)["Status"] == "exited", "the container's end", 60)
    nothing_left()
