"""Whose memory the host may merge: nobody's, the sandbox processes', or the VMs' too."""

import re
from pathlib import Path

import pytest

from hypercontainer.errors import NotSupported
from hypercontainer.sandbox import read_state
from hypercontainer.system import merging
from tests.e2e import vms


@pytest.fixture(autouse=True)
def kernel() -> None:
    try:
        merging.check()
    except NotSupported as error:
        pytest.skip(str(error))


def _may_be_merged(pid: int) -> bool:
    """By the flags of the heap (proc(5), smaps: "mg")."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    flags = re.search(r" \[heap\]\n(?:.*\n)*?VmFlags: (.*)", text)
    assert flags is not None
    return "mg" in flags[1].split()


@pytest.mark.asyncio
@pytest.mark.usefixtures("hyperkernel")
@pytest.mark.parametrize(
    ("wanted", "sandbox", "vm"),
    [("off", False, False), ("sandboxes", True, False), ("all", True, True)],
)
async def test_whose_memory_is_merged(tmp_path: Path, wanted: str, sandbox: bool, vm: bool) -> None:
    async with vms.sandbox(tmp_path, memory_mib=64, memory_merge=wanted) as client:
        state = read_state(client.state_dir)
        assert state is not None
        assert _may_be_merged(state["pid"]) == sandbox
        assert _may_be_merged(state["vmm_pid"]) == vm
