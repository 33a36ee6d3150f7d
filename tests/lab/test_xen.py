"""What the machine of `make lab-xen` is: a dom0, whose tools talk to Xen."""

import subprocess
from pathlib import Path


def xl(*argv: str) -> str:
    done = subprocess.run(["xl", *argv], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_this_is_a_dom0() -> None:
    assert "control_d" in Path("/proc/xen/capabilities").read_text()
    assert "Domain-0" in xl("list")


def test_xen_runs_paravirtual_guests_and_whole_ones_with_nested_pages() -> None:
    lines = (line.partition(":") for line in xl("info").splitlines())
    info = {name.strip(): value.strip() for name, _, value in lines}
    assert (info["xen_major"], info["xen_minor"]) == ("4", "17")
    assert {"pv", "hvm", "hap"} <= set(info["virt_caps"].split())
