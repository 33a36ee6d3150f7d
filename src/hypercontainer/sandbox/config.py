"""The configuration of one VM."""

from typing import Any

from ..errors import BadRequest

_ACCELS = ("auto", "kvm", "tcg")
_NETWORKS = ("none", "user")
MIN_MEMORY_MIB = 48


class VMConfig:
    """What a sandbox's VM is made of.

    `memory_mib` is in MiB and at least 48; `accel` is auto, kvm or tcg;
    `kernel` and `initrd` of None mean hyperkernel, else the distribution's;
    `append` is added to the kernel's command line; `boot_timeout` is in
    seconds, None scales it to the engine and the host's load; `share` gives
    the VM a 9p share, which bind mounts and directory root file systems need;
    with `linger` false the VM ends with its last container; `ephemeral` says
    that nobody wants its disks afterwards; `network` is none or user.
    """

    def __init__(
        self,
        *,
        cpus: int = 1,
        memory_mib: int = 128,
        accel: str = "auto",
        kernel: str | None = None,
        initrd: str | None = None,
        append: str = "",
        boot_timeout: float | None = None,
        share: bool = False,
        linger: bool = True,
        ephemeral: bool = False,
        network: str = "none",
    ) -> None:
        self.cpus = cpus
        self.memory_mib = memory_mib
        self.accel = accel
        self.kernel = kernel
        self.initrd = initrd
        self.append = append
        self.boot_timeout = boot_timeout
        self.share = share
        self.linger = linger
        self.ephemeral = ephemeral
        self.network = network

    def validate(self) -> None:
        """Raises BadRequest for a machine that can't be made."""
        if not 1 <= self.cpus <= 64:
            raise BadRequest(f"cpus: {self.cpus} is not between 1 and 64")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise BadRequest(
                f"memory: {self.memory_mib} MiB is too little for a VM, which needs"
                f" {MIN_MEMORY_MIB} MiB at least"
            )
        if self.accel not in _ACCELS:
            raise BadRequest(f"accel: {self.accel!r} is none of {', '.join(_ACCELS)}")
        if self.network not in _NETWORKS:
            raise BadRequest(f"network: {self.network!r} is none of {', '.join(_NETWORKS)}")
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
