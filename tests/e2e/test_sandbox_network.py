"""The VM's cards follow a network namespace: what an engine made, and what it changes later."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.sandbox import SandboxClient
from hypercontainer.sandbox.calls import call
from tests.e2e import leaks
from tests.e2e.rootfs import make_config, process
from tests.e2e.vms import BOUND, Disks, execute, sandbox

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

_NEIGHBOUR = ("neighbour", "replace", "nud", "permanent")
_MAC = "02:77:00:00:00:50"
_CAPABILITIES = ["CAP_NET_RAW", "CAP_NET_ADMIN"]


def ip(*args: str) -> str:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Networks:
    """Two namespaces: `followed` has the interfaces that the VM gets, `outside` their peers."""

    def __init__(self) -> None:
        self.followed, self.outside = f"hypt-{os.getpid()}-a", f"hypt-{os.getpid()}-b"
        for name in (self.followed, self.outside):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")

    def close(self) -> None:
        for name in (self.followed, self.outside):
            ip("netns", "del", name)

    def inside(self, *args: str) -> str:
        return ip("-n", self.followed, *args)

    def connect(self, name: str, mac: str, net: str) -> None:
        """A link between the two: NET.2 and fd00:NET::2 inside, .1 and ::1 outside."""
        ip(
            *("-n", self.followed, "link", "add", name, "address", mac, "mtu", "1400"),
            *("type", "veth", "peer", "name", name, "mtu", "1400", "netns", self.outside),
        )
        for namespace, host in ((self.followed, 2), (self.outside, 1)):
            ip("-n", namespace, "link", "set", name, "up")
            ip("-n", namespace, "address", "add", f"10.77.{net}.{host}/24", "dev", name)
            v6 = f"fd00:{net}::{host}/64"
            ip("-n", namespace, "address", "add", v6, "dev", name, "nodad")

    def taps(self) -> list[str]:
        links = json.loads(self.inside("-j", "link", "show"))
        return [link["ifname"] for link in links if link["ifname"].startswith("hypertap")]

    async def until_taps(self, count: int) -> None:
        """Until QEMU has let the taps of other cards go."""
        deadline = asyncio.get_running_loop().time() + BOUND / 4
        while len(taps := self.taps()) != count:
            assert asyncio.get_running_loop().time() < deadline, taps
            await asyncio.sleep(0.1)

    def redirects(self) -> str:
        command = ["tc", "-n", self.followed, "qdisc", "show"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return "".join(line for line in done.stdout.splitlines() if "ingress" in line)


@pytest.fixture
def networks() -> Iterator[Networks]:
    networks = Networks()
    try:
        networks.connect("eth0", "02:77:00:00:00:02", "0")
        networks.inside("route", "add", "default", "via", "10.77.0.1")
        networks.inside("-6", "route", "add", "default", "via", "fd00:0::1")
        networks.inside("route", "add", "10.99.0.0/16", "dev", "eth0")
        networks.inside(*_NEIGHBOUR, "10.77.0.50", "lladdr", _MAC, "dev", "eth0")
        networks.inside("-6", *_NEIGHBOUR, "fd00::50", "lladdr", _MAC, "dev", "eth0")
        yield networks
    finally:
        networks.close()


class Guest:
    """What a container in the VM's network namespace sees."""

    def __init__(self, client: SandboxClient) -> None:
        self.client = client
        self._count = 0

    async def sh(self, script: str) -> str:
        self._count += 1
        sets = ("bounding", "effective", "permitted")
        capabilities = dict.fromkeys(sets, _CAPABILITIES)
        ran = await execute(
            self.client,
            "box",
            f"e{self._count}",
            process("sh", "-c", script, capabilities=capabilities),
        )
        return (ran.stdout + ran.stderr).decode()

    async def until(self, script: str, *wanted: str, missing: str = "\0") -> str:
        """What the script says once it has all `wanted` and not `missing`."""
        deadline = asyncio.get_running_loop().time() + BOUND / 4
        while True:
            said = await self.sh(script)
            if all(text in said for text in wanted) and missing not in said:
                return said
            assert asyncio.get_running_loop().time() < deadline, said
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def following(directory: Path, networks: Networks) -> AsyncIterator[Guest]:
    disks = Disks(directory)
    async with sandbox(directory) as client:
        namespace = os.open(f"/run/netns/{networks.followed}", os.O_RDONLY)
        try:
            await asyncio.to_thread(
                call, str(client.state_dir), "network", fds=[namespace], timeout=BOUND
            )
        finally:
            os.close(namespace)
        config: dict[str, Any] = make_config("sleep", "3600")
        await client.create_container("box", config, disks.rootfs())
        await client.start_container("box")
        yield Guest(client)
        await client.shutdown()


async def test_what_the_engine_made_is_in_the_guest(tmp_path: Path, networks: Networks) -> None:
    async with following(tmp_path, networks) as guest:
        seen = await guest.sh("ip address show dev eth0; ip route; ip -6 route")
        for part in (
            *("mtu 1400", "02:77:00:00:00:02", "10.77.0.2/24", "fd00::2/64", ",UP"),
            *("default via 10.77.0.1 dev eth0", "10.99.0.0/16 dev eth0"),
            "default via fd00::1 dev eth0",
        ):
            assert part in seen
        for address in ("10.77.0.50", "fd00::50"):
            assert f"{address} dev eth0 lladdr {_MAC}" in await guest.sh("ip neigh")
        for target in ("10.77.0.1", "fd00::1"):
            assert "1 packets received" in await guest.sh(f"ping -c 1 -w 10 {target}")
        reached = ["busybox", "ping", "-c", "1", "-w", "10", "10.77.0.2"]
        ip("netns", "exec", networks.outside, *reached)
        big = await guest.sh("ping -c 1 -w 10 -s 4000 10.77.0.1")
        assert "4008 bytes from" in big
        assert len(networks.taps()) == 1 and networks.redirects()
    assert (networks.taps(), networks.redirects()) == ([], "")


async def test_changes_are_followed(tmp_path: Path, networks: Networks) -> None:
    async with following(tmp_path, networks) as guest:
        networks.inside("address", "add", "10.77.0.9/24", "dev", "eth0")
        networks.inside("address", "del", "fd00::2/64", "dev", "eth0")
        networks.inside("address", "add", "fd00::9/64", "dev", "eth0", "nodad")
        await guest.until("ip address", "10.77.0.9/24", "fd00::9/64", missing="fd00::2/64")
        networks.inside("address", "del", "10.77.0.2/24", "dev", "eth0")
        networks.inside("address", "add", "10.77.0.3/24", "dev", "eth0")
        await guest.until("ip address", "10.77.0.3/24", missing="10.77.0.2/24")
        networks.inside("link", "set", "eth0", "mtu", "1300")
        await guest.until("ip address", "mtu 1300", "fd00::9/64", "10.77.0.3/24")
        # They went with the last of the addresses, in both kernels.
        networks.inside("route", "add", "10.99.0.0/16", "dev", "eth0")
        networks.inside("route", "add", "default", "via", "10.77.0.1")
        await guest.until("ip route", "default via 10.77.0.1", "10.99.0.0/16")
        networks.inside("route", "replace", "default", "via", "10.77.0.7")
        await guest.until("ip route", "default via 10.77.0.7", missing="10.77.0.1")
        networks.inside("route", "del", "10.99.0.0/16")
        await guest.until("ip route", "default via 10.77.0.7", missing="10.99.0.0/16")
        assert "1 packets received" in await guest.sh("ping -c 1 -w 10 10.77.0.1")
        assert "1 packets received" in await guest.sh("ping -c 1 -w 10 fd00::1")


async def test_a_card_that_comes_and_goes(tmp_path: Path, networks: Networks) -> None:
    async with following(tmp_path, networks) as guest:
        for _ in range(3):
            networks.connect("web1", "02:77:00:00:01:02", "1")
            await guest.until("ip address", "web1", "10.77.1.2/24", "fd00:1::2/64")
            assert "1 packets received" in await guest.sh("ping -c 1 -w 10 10.77.1.1")
            assert len(networks.taps()) == 2
            networks.inside("link", "del", "web1")
            await guest.until("ip address", missing="web1")
            await networks.until_taps(1)
        assert (await guest.sh("ls /sys/class/net")).split() == ["eth0", "lo"]
        assert "1 packets received" in await guest.sh("ping -c 1 -w 10 10.77.0.1")


@pytest.mark.usefixtures("virtio_mem", "two_cpus")
async def test_a_card_after_memory_and_a_cpu(tmp_path: Path, networks: Networks) -> None:
    """Its registers and interrupts find their place in the VM that grew."""
    async with following(tmp_path, networks) as guest:
        assert await guest.client.grow(200) == 256
        assert await guest.client.plug_cpus(2) == 2
        networks.connect("web1", "02:77:00:00:01:02", "1")
        await guest.until("ip address", "web1", "10.77.1.2/24")
        for target in ("10.77.1.1", "10.77.0.1"):
            assert "1 packets received" in await guest.sh(f"ping -c 1 -w 10 {target}")


async def test_nothing_is_left(tmp_path: Path, networks: Networks) -> None:
    with leaks.none(tmp_path, files=False):
        async with following(tmp_path, networks):
            pass
    assert (networks.taps(), networks.redirects()) == ([], "")
