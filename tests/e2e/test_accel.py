"""`accel=auto` on the real host: KVM where it runs a guest, the emulation where it does not."""

import os
from pathlib import Path

import pytest

from hypercontainer.guest import kernel
from hypercontainer.hypervisor import accel, jail
from hypercontainer.sandbox import read_state
from tests.e2e.vms import Disks, run, sandbox

_USER = 1879048192

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the verdict on KVM is root's")


async def test_auto_is_an_engine_that_runs_a_guest(tmp_path: Path) -> None:
    engine, why = accel.choose("auto", kernel.find())
    assert (engine == "kvm") == (why == "")
    if os.environ.get("HYPER_LAB") == "kvm":
        assert engine == "kvm"
    async with sandbox(tmp_path, accel="auto") as client:
        state = read_state(client.state_dir)
        assert state is not None
        assert (state["accel"], state["accel_reason"]) == (engine, why)
        ran = await run(client, Disks(tmp_path).rootfs(), "echo", "it runs")
        assert (ran.stdout, ran.status.code) == (b"it runs\n", 0)


def test_in_its_jail_any_user_has_a_kvm_of_its_own(tmp_path: Path) -> None:
    """Whomever the host's device belongs to; that is left as it is."""
    if not Path(jail.KVM).exists():
        pytest.skip(f"no {jail.KVM} here")
    before = os.stat(jail.KVM)
    child = os.fork()
    if child == 0:
        try:
            own = jail.enter(str(tmp_path), [], "", _USER)
            os.setgroups([])
            os.setresuid(_USER, _USER, _USER)
            os.open(jail.KVM, os.O_RDWR)
            os._exit(0 if own and os.listdir("/dev") == ["kvm"] else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    after = os.stat(jail.KVM)
    assert (before.st_mode, before.st_uid, before.st_ino) == (
        *(after.st_mode, after.st_uid, after.st_ino),
    )
