"""`accel=auto` on the real host: KVM where it runs a guest, the emulation where it does not."""

import os
from pathlib import Path

import pytest

from hypercontainer.errors import VMError
from hypercontainer.guest import kernel
from hypercontainer.hypervisor import accel
from hypercontainer.sandbox import VMConfig, launch, read_state
from tests.e2e.vms import Disks, run, sandbox

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


async def test_kvm_that_can_not_be_had_is_refused_with_the_reason(tmp_path: Path) -> None:
    engine, why = accel.choose("auto", kernel.find())
    if engine == "kvm":
        pytest.skip("KVM runs guests here")
    with pytest.raises(VMError) as caught:
        await launch("x", tmp_path / "vm", VMConfig(accel="kvm", template="off"))
    assert why in caught.value.message
    assert "use accel=auto or accel=tcg" in caught.value.message
