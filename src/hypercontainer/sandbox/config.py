"""The configuration of one VM."""

import os

from ..errors import BadRequest
from ..guest.fields import read_integer, read_object
from ..guest.platforms import NATIVE, architecture
from ..hypervisor.engines import CHOICES
from ..quick.types import Any
from ..system import merging

_NETWORKS = ("none", "user")
_TEMPLATES = ("auto", "use", "off")
SHARE_DRIVERS = ("9p", "virtiofs")
MIN_MEMORY_MIB = 48
_GUEST_MEMORY_MIB = 64


class VMConfig:
    """What a sandbox's VM is made of.

    `memory_mib` is in MiB and at least 48; `accel` is an engine, or a
    choice among some (see `hypervisor.engines`);
    `kernel` and `initrd` of None mean hyperkernel, else the distribution's;
    with `cbfs`, a flash, it boots what that holds instead, and `bios` is the
    firmware, None for the usual one;
    `append` is added to the kernel's command line; `boot_timeout` is in
    seconds, None scales it to the engine and the host's load; `share` gives
    the VM a share, which bind mounts and directory root file systems need, by
    `share_driver`, 9p or virtiofs;
    with `linger` false the VM ends with its last container; `ephemeral` says
    that nobody wants its disks afterwards; `network` is none or user;
    `template` is auto (clone a booted VM, and make a template when there is
    none), use (clone if there is one) or off (boot); `architecture` is the
    guest's, by Docker's name; `memory_merge` is off, sandboxes or all: whose
    memory the host may merge with other processes' (see `system.merging`).
    """

    def __init__(
        self,
        *,
        cpus: int = 1,
        memory_mib: int = 128,
        accel: str = "auto",
        kernel: str | None = None,
        initrd: str | None = None,
        bios: str | None = None,
        cbfs: str | None = None,
        append: str = "",
        boot_timeout: float | None = None,
        share: bool = False,
        share_driver: str = "9p",
        linger: bool = True,
        ephemeral: bool = False,
        network: str = "none",
        template: str = "auto",
        architecture: str = NATIVE,
        memory_merge: str = merging.OFF,
    ) -> None:
        self.cpus = cpus
        self.memory_mib = memory_mib
        self.accel = accel
        self.kernel = kernel
        self.initrd = initrd
        self.bios = bios
        self.cbfs = cbfs
        self.append = append
        self.boot_timeout = boot_timeout
        self.share = share
        self.share_driver = share_driver
        self.linger = linger
        self.ephemeral = ephemeral
        self.network = network
        self.template = template
        self.architecture = architecture
        self.memory_merge = memory_merge

    def validate(self) -> None:
        """Raises BadRequest for a machine that can't be made."""
        if not 1 <= self.cpus <= 64:
            raise BadRequest(f"cpus: {self.cpus} is not between 1 and 64")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise BadRequest(
                f"memory: {self.memory_mib} MiB is too little for a VM, which needs"
                f" {MIN_MEMORY_MIB} MiB at least"
            )
        architecture(self.architecture)
        if self.accel not in CHOICES:
            raise BadRequest(f"accel: {self.accel!r} is none of {', '.join(CHOICES)}")
        if self.network not in _NETWORKS:
            raise BadRequest(f"network: {self.network!r} is none of {', '.join(_NETWORKS)}")
        if self.template not in _TEMPLATES:
            raise BadRequest(f"template: {self.template!r} is none of {', '.join(_TEMPLATES)}")
        if self.memory_merge not in merging.CHOICES:
            raise BadRequest(
                f"memory merge: {self.memory_merge!r} is none of {', '.join(merging.CHOICES)}"
            )
        if self.share_driver not in SHARE_DRIVERS:
            raise BadRequest(
                f"share driver: {self.share_driver!r} is none of {', '.join(SHARE_DRIVERS)}"
            )
        if self.boot_timeout is not None and self.boot_timeout <= 0:
            raise BadRequest(f"boot timeout: {self.boot_timeout} s is not positive")

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for the sandbox process."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VMConfig":
        """The reverse of `to_json`; checked."""
        config = cls(**data)
        config.validate()
        return config


def vm_memory(limit: int) -> int:
    """The MiB of a VM whose container may use `limit` bytes: the guest needs some beside it."""
    return (limit >> 20) + _GUEST_MEMORY_MIB


def vm_size(config: dict[str, Any], cpus: int, memory_mib: int) -> tuple[int, int]:
    """The CPUs and MiB of the VM of one container: the defaults, or what its limits ask for.

    `config` is an OCI configuration. A memory limit is the container's; the
    guest itself needs some beside it. Raises BadRequest naming the key.
    """
    where = "linux.resources."
    resources = read_object(read_object(config, "linux"), "resources", "linux.")
    cpu, memory = (read_object(resources, key, where) for key in ("cpu", "memory"))
    quota = read_integer(cpu, "quota", f"{where}cpu.")
    period = read_integer(cpu, "period", f"{where}cpu.") or 100000
    if period < 0:
        raise BadRequest(f"{where}cpu.period: {period} is negative")
    if quota > 0:
        cpus = max(cpus, min(-(-quota // period), os.cpu_count() or 1))
    limit = read_integer(memory, "limit", f"{where}memory.")
    if limit > 0:
        memory_mib = max(memory_mib, vm_memory(limit))
    return cpus, memory_mib
