"""VM configurations as machines of the hypervisor."""

import os

from ..guest.kernel import find
from ..hypervisor.accel import choose
from ..hypervisor.machine import Machine
from .config import VMConfig

# Above the ranges that distributions, systemd and container engines hand out; a pid is unique
# among the processes alive, so each VM has a user of its own.
_FIRST_UID = 1879048192


def machine_of(name: str, directory: str, config: VMConfig) -> tuple[Machine, str]:
    """The machine of a configuration, with its directories in `directory`, and why its engine
    was chosen. Raises HyperError."""
    image = find(config.kernel, config.initrd)
    accel, why = choose(config.accel, image)
    jail = os.path.join(directory, "root")
    os.makedirs(jail, exist_ok=True)
    machine = Machine(
        name=name,
        accel=accel,
        cpus=config.cpus,
        memory_mib=config.memory_mib,
        kernel=os.path.realpath(image.kernel),
        initrd=os.path.realpath(image.initrd),
        append=config.append,
        share=os.path.join(directory, "share") if config.share else "",
        network=config.network,
        user_id=_FIRST_UID + os.getpid(),
        jail=jail,
        share_driver=config.share_driver,
    )
    return machine, why
