"""VM configurations as machines of the hypervisor."""

import os
from typing import Any

from ..errors import BadRequest, HyperError, NotFound, NotSupported, VMError
from ..guest.kernel import GuestImage, find
from ..guest.platforms import ARCHITECTURES, NATIVE
from ..hypervisor import cpu_counts, driver, engines
from ..hypervisor.accel import choose
from ..hypervisor.machine import Machine, own_user_id
from ..system import merging
from .config import VMConfig


def machine_of(name: str, directory: str, config: VMConfig) -> tuple[Machine, str]:
    """The machine of a configuration, with its directories in `directory`, and why its engine
    was chosen. Raises HyperError."""
    image, accel, why = _engine(config)
    if config.memory_merge != merging.OFF:
        merging.check()
    is_merged = config.memory_merge == merging.ALL
    if is_merged and accel not in engines.QEMU:
        raise NotSupported(f"memory of the engine {accel} is not merged: only QEMU's is")
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
        user_id=own_user_id(),
        jail=jail,
        share_driver=config.share_driver,
        bios=image.bios,
        cbfs=image.cbfs,
        architecture=config.architecture,
        most_cpus=cpu_counts.most(config.cpus, image, accel, config.architecture),
        is_merged=is_merged,
    )
    driver.check(machine, driver.load(accel).features(accel))
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
    from ..hypervisor import flash

    try:
        return flash.stale(image.cbfs, find(config.kernel, config.initrd))
    except NotFound:
        return ""


def _engine(config: VMConfig) -> tuple[GuestImage, str, str]:
    """What to boot, the engine that runs it, and why that. Raises HyperError.

    On a host that is Xen's control domain, `auto` is Xen, and what stands in its way the reason
    for another.
    """
    if config.architecture != NATIVE:
        return _foreign(config)
    wanted = config.accel
    if wanted == "auto" and engines.is_control_domain():
        try:
            return _other(engines.of_xen(), config)
        except HyperError as error:
            return _image(config), "tcg", error.message
    if wanted == "qemu":
        wanted = "auto"
    if wanted not in ("auto", *engines.QEMU):
        return _other(wanted, config)
    image = _image(config)
    return image, *choose(wanted, image)


def _foreign(config: VMConfig) -> tuple[GuestImage, str, str]:
    """As `_engine`, for a guest of another architecture than the host's, which is emulated."""
    platform = ARCHITECTURES[config.architecture].platform
    if config.bios or config.cbfs:
        raise BadRequest(f"bios, cbfs: {platform} has none: QEMU starts its kernel itself")
    if config.accel not in ("auto", "qemu", "tcg"):
        raise VMError(
            f"{config.accel} runs no {platform} on this machine: use accel=auto or accel=tcg"
        )
    image = find(config.kernel, config.initrd, config.architecture)
    return image, "tcg", f"{platform} is emulated on this machine"


def _other(engine: str, config: VMConfig) -> tuple[GuestImage, str, str]:
    """As `_engine`, for an engine that is not QEMU's."""
    found = driver.load(engine)
    if config.bios or config.cbfs:
        raise NotSupported(f"{engine} boots kernel and initrd: there is no bios and no cbfs for it")
    missing: NotFound | None = None
    try:
        image = find(config.kernel, config.initrd, found.features(engine).kernel)
    except NotFound as error:
        # What is wrong with the host is to be known before a kernel is built in vain.
        missing, image = error, GuestImage("", "", "none")
    if trouble := found.trouble(engine, image):
        raise VMError(f"{engine} can't be used: {trouble}")
    if missing is not None:
        raise missing
    return image, engine, ""


def fingerprint(machine: Machine) -> dict[str, Any]:
    """What a machine must have in common with one whose state it is to load. Raises OSError."""
    from hashlib import sha256

    from ..hypervisor.template import shape

    found: dict[str, Any] = {}
    for name in ("kernel", "initrd", *(["bios"] if machine.bios else [])):
        with open(getattr(machine, name), "rb") as file:
            found[name] = sha256(file.read()).hexdigest()
    for name in ("accel", "cpus", "most_cpus", "memory_mib"):
        found[name] = getattr(machine, name)
    # The files may be at another path.
    paths = (machine.kernel, machine.initrd, machine.bios)
    files = ("if=pflash", "loader,")
    words = [w for w in shape(machine) if w not in paths and not w.startswith(files)]
    return {**found, "shape": sha256("\0".join(words).encode()).hexdigest()}
