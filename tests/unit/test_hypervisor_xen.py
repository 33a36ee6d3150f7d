"""What Xen is told, and the ring that carries bytes to a guest, with the guest's half done here."""

import os
import socket
from pathlib import Path
from typing import cast

import pytest

from hypercontainer.errors import NotSupported, VMError
from hypercontainer.guest.kernel import GuestImage
from hypercontainer.hypervisor import driver, engines, xen_devices, xen_domain, xen_driver
from hypercontainer.hypervisor.machine import Machine
from hypercontainer.hypervisor.xen_ring import Channel, Ring
from hypercontainer.hypervisor.xenstore import XenStore
from hypercontainer.system import processes

IMAGE = GuestImage("/k", "/i", "custom")
MACHINE = Machine(
    name="box",
    accel="xen",
    cpus=2,
    memory_mib=128,
    kernel="/boot/k",
    initrd="/boot/i",
    append="",
    share="",
    network="none",
    user_id=0,
    jail="",
)
# Where the ring's counters are: 32-bit words after 1024 bytes to the guest and 2048 from it.
IN_CONSUMED, IN_PRODUCED, OUT_CONSUMED, OUT_PRODUCED = range(768, 772)


class Guest:
    """A page of the guest's, and a ring over it."""

    def __init__(self, counters: int = 0) -> None:
        self.page = memoryview(bytearray(4096))
        self.words = self.page.cast("I")
        for word in range(IN_CONSUMED, OUT_PRODUCED + 1):
            self.words[word] = counters
        self.notified = 0
        self.ring = Ring(self.page, self._notify)

    def _notify(self) -> None:
        self.notified += 1

    def write(self, data: bytes) -> None:
        for byte in data:
            self.page[1024 + self.words[OUT_PRODUCED] % 2048] = byte
            self.words[OUT_PRODUCED] = (self.words[OUT_PRODUCED] + 1) & 0xFFFFFFFF

    def read(self) -> bytes:
        data = bytearray()
        while self.words[IN_CONSUMED] != self.words[IN_PRODUCED]:
            data.append(self.page[self.words[IN_CONSUMED] % 1024])
            self.words[IN_CONSUMED] = (self.words[IN_CONSUMED] + 1) & 0xFFFFFFFF
        return bytes(data)


@pytest.mark.parametrize("counters", [0, 1000, 2**32 - 100])
def test_bytes_go_both_ways_whatever_the_counters_are(counters: int) -> None:
    guest = Guest(counters)
    for size in (1, 500, 1024, 3):
        sent = bytes(number % 251 for number in range(size))
        assert guest.ring.push(sent) == size
        assert guest.read() == sent
        guest.write(sent)
        assert guest.ring.pull() == sent
    assert guest.ring.pull() == b""
    assert guest.notified == 8


def test_what_has_no_room_is_left() -> None:
    guest = Guest()
    assert guest.ring.push(b"a" * 1500) == 1024
    assert guest.ring.push(b"b") == 0
    assert guest.read() == b"a" * 1024


@pytest.mark.parametrize("word", [IN_CONSUMED, OUT_PRODUCED])
def test_a_guest_that_breaks_the_ring_is_found_out(word: int) -> None:
    guest = Guest()
    guest.words[word] = 5000
    with pytest.raises(OSError, match="broke the ring"):
        guest.ring.push(b"x") if word == IN_CONSUMED else guest.ring.pull()


def test_a_channel_loses_nothing_when_both_sides_are_slow() -> None:
    guest = Guest()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        channel = Channel(guest.ring, ours)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent, taken, got = bytes(range(256)) * 200, 0, b""
        theirs.setblocking(False)
        while len(got) < len(sent):
            try:
                taken += theirs.send(sent[taken:])
            except BlockingIOError:
                pass
            channel.carry()
            got += guest.read()
        assert got == sent
        written, got = 0, b""
        while len(got) < len(sent):
            room = 2048 - (guest.words[OUT_PRODUCED] - guest.words[OUT_CONSUMED])
            guest.write(sent[written : written + room])
            written += room
            channel.carry()
            try:
                got += theirs.recv(1000)
            except BlockingIOError:
                pass
        assert got == sent


def test_the_end_of_the_socket_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    with ours, pytest.raises(EOFError):
        Channel(Guest().ring, ours).carry()


def test_the_configuration_of_a_domain() -> None:
    lines = xen_domain.configuration(MACHINE._replace(append='a="b\\c"'), "hyper-box-1-2")
    assert lines.splitlines()[:3] == [
        'name = "hyper-box-1-2"',
        'type = "pvh"',
        'kernel = "/boot/k"',
    ]
    assert 'cpuid = "host,rdtscp=0"' in lines
    assert 'hyper.ports=hvc1,hvc2 a=\\"b\\\\c\\""' in lines
    assert "memory = 128\nvcpus = 2\n" in lines
    assert "p9" not in lines
    paravirtual = xen_domain.configuration(MACHINE._replace(accel="xenpv", share="/s"), "n")
    assert 'type = "pv"' in paravirtual
    assert "cpuid" not in paravirtual
    assert 'p9 = ["tag=hyper,security_model=none,path=/s"]' in paravirtual


def test_a_configuration_has_no_lines_of_others() -> None:
    with pytest.raises(VMError, match="can't be said to xl"):
        xen_domain.configuration(MACHINE._replace(append="a\ndisk = []"), "n")


def test_numbers_of_disks_are_those_that_hyperstart_looks_for() -> None:
    assert [xen_devices.disk_number(lun) for lun in (0, 1, 300)] == [
        *(0x10000000, 0x10000100, 0x10012C00),
    ]


def test_what_xl_says_is_shortened_to_the_reason() -> None:
    said = (
        "Parsing config from /proc/self/fd/3\n"
        "libxl: error: libxl_create.c:1234:domcreate_launch_dm: Domain 3:unable to add disk\n"
        "libxl: error: libxl_domain.c:1:x: later\n"
    )
    assert xen_domain.what_it_said(said) == "Domain 3:unable to add disk"
    assert xen_domain.what_it_said("") == "no reason"


def test_a_host_without_xen_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_XEN_KINDS", "/no/such/file")
    assert xen_driver.trouble("xen", IMAGE).startswith("this host does not run on Xen: ")


def test_another_domain_than_dom0_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, capabilities = tmp_path / "kinds", tmp_path / "capabilities"
    kinds.write_text("xen-3.0-x86_64 hvm-3.0-x86_64\n")
    capabilities.write_text("\n")
    monkeypatch.setattr(engines, "_XEN_KINDS", str(kinds))
    monkeypatch.setattr(engines, "_XEN_CAPABILITIES", str(capabilities))
    assert xen_driver.trouble("xenpv", IMAGE).startswith("this is not Xen's control domain")
    capabilities.write_text("control_d\n")
    assert engines.is_control_domain()
    assert engines.of_xen() == "xen"
    kinds.write_text("xen-3.0-x86_64\n")
    assert engines.of_xen() == "xenpv"
    assert xen_driver.trouble("xen", IMAGE) == "this CPU runs no PVH guests: use xenpv"


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_engine_has_a_driver(engine: str) -> None:
    assert driver.load(engine).features(engine).name


def test_what_an_engine_can_not_do_is_refused() -> None:
    features = xen_driver.features("xen")._replace(shares={})
    with pytest.raises(NotSupported, match=r"Xen \(xen\) can't give .* directories by 9p"):
        driver.check(MACHINE._replace(share="/s"), features)
    with pytest.raises(NotSupported, match="no user-mode network"):
        driver.check(MACHINE._replace(network="user"), features)


class Names:
    """The part of the store that has the domains' names."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names

    def list(self, path: str) -> list[str]:
        return [str(number) for number in self.names]

    def read(self, path: str) -> str:
        return self.names[int(path.split("/")[3])]


def test_a_domain_is_an_orphan_when_its_own_keeper_is_gone() -> None:
    pid = os.getpid()
    started = processes.start_time(pid)
    assert started is not None
    kept = xen_domain.name_of(MACHINE, pid, started)
    # The pid is another's since.
    left = xen_domain.name_of(MACHINE._replace(name="a-1-2-3-4"), pid, started + 1)
    namespace = os.stat("/proc/self/ns/pid").st_ino
    others = left.replace(str(namespace), str(namespace + 1))
    names = ["Domain-0", kept, left, others, "hyper-x", "hyper-x-1-2", ""]
    store = Names(dict(enumerate(names)))
    assert xen_domain.orphans(cast(XenStore, store)) == {2: left}
