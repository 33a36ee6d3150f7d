"""VM configurations as machines of the hypervisor."""

import os
from typing import Any

from ..guest.kernel import GuestImage, find
from ..hypervisor.accel import choose
from ..hypervisor.machine import Machine
from .config import VMConfig

# Above the ranges that distributions, systemd and container engines hand out; a pid is unique
# among the processes alive, so each VM has a user of its own.
_FIRST_UID = 1879048192


def machine_of(name: str, directory: str, config: VMConfig) -> tuple[Machine, str]:
    """The machine of a configuration, with its directories in `directory`, and why its engine
    was chosen. Raises HyperError."""
    image = _image(config)
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
        bios=image.bios,
        cbfs=image.cbfs,
    )
    return machine, why


def _image(config: VMConfig) -> GuestImage:
    if not config.cbfs and not config.bios:
        return find(config.kernel, config.initrd)
    from ..hypervisor import flash

    if config.cbfs:
        return flash.image(config.bios, config.cbfs)
    return flash.with_bios(find(config.kernel, config.initrd), config.bios or "")


def check_firmware(config: VMConfig) -> str:
    """Find the files of `bios` and `cbfs` sound; returns what is to be warned of, "" for nothing:
    that the flash holds another kernel or initrd than those configured. Raises HyperError.
    """
    image = _image(config)
    if not image.cbfs:
        return ""
    from ..errors import NotFound
    from ..hypervisor import flash

    try:
        return flash.stale(image.cbfs, find(config.kernel, config.initrd))
    except NotFound:
        return ""


def fingerprint(machine: Machine) -> dict[str, Any]:
    """What a machine must have in common with one whose state it is to load. Raises OSError."""
    from hashlib import sha256

    from ..hypervisor.template import shape

    found: dict[str, Any] = {}
    for name in ("kernel", "initrd", *(["bios"] if machine.bios else [])):
        with open(getattr(machine, name), "rb") as file:
            found[name] = sha256(file.read()).hexdigest()
    found |= {"accel": machine.accel, "cpus": machine.cpus, "memory_mib": machine.memory_mib}
    # The files may be at another path.
    paths = (machine.kernel, machine.initrd, machine.bios)
    words = [w for w in shape(machine) if w not in paths and not w.startswith("if=pflash")]
    return {**found, "shape": sha256("\0".join(words).encode()).hexdigest()}
