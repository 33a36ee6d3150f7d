"""Which engine runs the VMs of tests that choose one, of which architecture they are, and how slow
the machine under them is."""

import os

from hypercontainer.errors import HyperError
from hypercontainer.guest import kernel
from hypercontainer.guest.platforms import NATIVE
from hypercontainer.hypervisor import driver
from hypercontainer.system.patience import slowness

# A host may have a KVM that hangs, so `auto` is for the tests that are about it. In the lab, it is
# `kvm`, and bounds are longer.
ACCEL = os.environ.get("HYPER_TEST_ACCEL", "tcg")
# `make test-arm64` sets it, for the tests of sandboxes.
ARCHITECTURE = os.environ.get("HYPER_TEST_ARCHITECTURE", NATIVE)
SLOWNESS = slowness()


def uml_trouble() -> str:
    """Why User Mode Linux can't run here, "" if it can."""
    try:
        return driver.load("uml").trouble("uml", kernel.find(flavour="uml"))
    except HyperError as error:
        return error.message
