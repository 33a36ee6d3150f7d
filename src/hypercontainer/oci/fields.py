"""Every field of runtime-spec 1.1's configuration (config.md, config-linux.md, config-vm.md).

What runv does with each: the table of docs/oci.md, and what `check` refuses.
`[]` stands for the items of an array, `*` for the keys of a map; a row for an
object counts for all that is below it.
"""

from ..errors import NotSupported
from ..quick.types import Any, Iterator, NamedTuple

APPLIED = "applied"
REFUSED = "refused"
MEANINGLESS = "no meaning"


class Field(NamedTuple):
    """A field: its path, what is done with it, and how or why."""

    path: str
    treatment: str
    note: str


_WALL = "the program is behind the VM's wall, not under the host's"

_TABLE: tuple[tuple[str, str, str], ...] = (
    ("ociVersion", APPLIED, "1.x is taken, another one refused"),
    ("root.path", APPLIED, "shared with the VM"),
    ("root.readonly", APPLIED, "in the guest"),
    ("hostname", APPLIED, "in the guest; needs a uts namespace"),
    ("domainname", APPLIED, "in the guest; needs a uts namespace"),
    ("annotations.*", APPLIED, "in the state; those of Kubernetes' engines name the pod's VM"),
    (
        "annotations.org.hypercontainer.architecture",
        APPLIED,
        "the VM's architecture: amd64 (the default) or arm64, which is emulated",
    ),
    # -- mounts
    ("mounts[].destination", APPLIED, "in the guest; made when it is missing"),
    ("mounts[].source", APPLIED, "of a bind mount: shared with the VM"),
    ("mounts[].type", APPLIED, "in the guest; cgroup means cgroup v2"),
    (
        "mounts[].options",
        APPLIED,
        "in the guest: flags, recursive ones, propagation, tmpcopyup, the file system's own;"
        " what is mounted below a bind mount on the host is one file system in the guest",
    ),
    ("mounts[].uidMappings", REFUSED, "idmapped mounts are not supported on a share"),
    ("mounts[].gidMappings", REFUSED, "idmapped mounts are not supported on a share"),
    # -- process
    ("process.terminal", APPLIED, "a pty in the guest, joined to one on the host"),
    ("process.consoleSize.height", APPLIED, "in the guest"),
    ("process.consoleSize.width", APPLIED, "in the guest"),
    ("process.cwd", APPLIED, "in the guest; made when it is missing"),
    ("process.env", APPLIED, "in the guest"),
    ("process.args", APPLIED, "in the guest"),
    ("process.commandLine", REFUSED, "it is for Windows"),
    ("process.rlimits[].type", APPLIED, "in the guest"),
    ("process.rlimits[].soft", APPLIED, "in the guest"),
    ("process.rlimits[].hard", APPLIED, "in the guest"),
    ("process.apparmorProfile", MEANINGLESS, f"{_WALL} AppArmor"),
    ("process.capabilities.effective", APPLIED, "in the guest; absent sets are empty"),
    ("process.capabilities.bounding", APPLIED, "in the guest"),
    ("process.capabilities.inheritable", APPLIED, "in the guest"),
    ("process.capabilities.permitted", APPLIED, "in the guest"),
    ("process.capabilities.ambient", APPLIED, "in the guest"),
    ("process.noNewPrivileges", APPLIED, "in the guest"),
    ("process.oomScoreAdj", APPLIED, "in the guest"),
    ("process.scheduler.policy", APPLIED, "in the guest"),
    ("process.scheduler.nice", APPLIED, "in the guest"),
    ("process.scheduler.priority", APPLIED, "in the guest"),
    ("process.scheduler.flags", APPLIED, "in the guest"),
    ("process.scheduler.runtime", APPLIED, "in the guest"),
    ("process.scheduler.deadline", APPLIED, "in the guest"),
    ("process.scheduler.period", APPLIED, "in the guest"),
    ("process.selinuxLabel", MEANINGLESS, f"{_WALL} SELinux"),
    ("process.ioPriority.class", APPLIED, "in the guest"),
    ("process.ioPriority.priority", APPLIED, "in the guest"),
    ("process.user.uid", APPLIED, "in the guest"),
    ("process.user.gid", APPLIED, "in the guest"),
    ("process.user.umask", APPLIED, "in the guest; 0022 when it is absent"),
    ("process.user.additionalGids", APPLIED, "in the guest"),
    ("process.user.username", APPLIED, "in the guest, where passwd is looked up"),
    # -- hooks
    ("hooks.prestart", APPLIED, "on the host, before the container is made"),
    ("hooks.createRuntime", APPLIED, "on the host, after prestart"),
    ("hooks.createContainer", APPLIED, "on the host: the container's mounts are the VM's own"),
    ("hooks.startContainer", APPLIED, "in the container, before its program, as its root"),
    ("hooks.poststart", APPLIED, "on the host"),
    ("hooks.poststop", APPLIED, "on the host"),
    # -- linux
    ("linux.namespaces[].type", APPLIED, "in the guest; user is refused, cgroup always new"),
    (
        "linux.namespaces[].path",
        APPLIED,
        "network: the VM gets what is in it; others: of a container of runv, whose VM is shared",
    ),
    ("linux.uidMappings", REFUSED, "user namespaces are not supported: the VM is the wall"),
    ("linux.gidMappings", REFUSED, "user namespaces are not supported: the VM is the wall"),
    ("linux.timeOffsets.*.secs", APPLIED, "in the guest; needs a time namespace"),
    ("linux.timeOffsets.*.nanosecs", APPLIED, "in the guest; needs a time namespace"),
    ("linux.devices[].type", APPLIED, "the node in the guest; the device is the guest's"),
    ("linux.devices[].path", APPLIED, "in the guest"),
    ("linux.devices[].major", APPLIED, "in the guest"),
    ("linux.devices[].minor", APPLIED, "in the guest"),
    ("linux.devices[].fileMode", APPLIED, "in the guest"),
    ("linux.devices[].uid", APPLIED, "in the guest"),
    ("linux.devices[].gid", APPLIED, "in the guest"),
    ("linux.cgroupsPath", APPLIED, "on the host, for the VM; the guest has a group of its own"),
    ("linux.rootfsPropagation", APPLIED, "in the guest"),
    ("linux.seccomp.defaultAction", APPLIED, "compiled on the host, loaded in the guest"),
    ("linux.seccomp.defaultErrnoRet", APPLIED, "as defaultAction"),
    ("linux.seccomp.architectures", APPLIED, "those of x86-64; others have no meaning there"),
    ("linux.seccomp.flags", APPLIED, "TSYNC, LOG and SPEC_ALLOW; others are refused"),
    ("linux.seccomp.listenerPath", REFUSED, "a listener on the host can't serve a guest"),
    ("linux.seccomp.listenerMetadata", REFUSED, "a listener on the host can't serve a guest"),
    ("linux.seccomp.syscalls[].names", APPLIED, "as defaultAction"),
    ("linux.seccomp.syscalls[].action", APPLIED, "as defaultAction; SCMP_ACT_NOTIFY is refused"),
    ("linux.seccomp.syscalls[].errnoRet", APPLIED, "as defaultAction"),
    ("linux.seccomp.syscalls[].args[].index", APPLIED, "as defaultAction"),
    ("linux.seccomp.syscalls[].args[].value", APPLIED, "as defaultAction"),
    ("linux.seccomp.syscalls[].args[].valueTwo", APPLIED, "as defaultAction"),
    ("linux.seccomp.syscalls[].args[].op", APPLIED, "as defaultAction"),
    ("linux.sysctl.*", APPLIED, "in the guest, any name: its kernel is the container's own"),
    ("linux.maskedPaths", APPLIED, "in the guest"),
    ("linux.readonlyPaths", APPLIED, "in the guest"),
    ("linux.mountLabel", MEANINGLESS, f"{_WALL} SELinux"),
    ("linux.intelRdt", REFUSED, "a VM's caches are not divided"),
    ("linux.personality.domain", APPLIED, "in the guest"),
    ("linux.personality.flags", APPLIED, "none is defined: any is refused"),
    # -- linux.resources
    ("linux.resources.devices[].allow", APPLIED, "in the guest, by a BPF program of the group"),
    ("linux.resources.devices[].type", APPLIED, "as allow"),
    ("linux.resources.devices[].major", APPLIED, "as allow"),
    ("linux.resources.devices[].minor", APPLIED, "as allow"),
    ("linux.resources.devices[].access", APPLIED, "as allow"),
    ("linux.resources.memory.limit", APPLIED, "in the guest, and the VM's size"),
    ("linux.resources.memory.reservation", APPLIED, "in the guest (memory.low)"),
    ("linux.resources.memory.swap", MEANINGLESS, "the guest has no swap; checked against limit"),
    ("linux.resources.memory.kernel", MEANINGLESS, "cgroup v2 counts it with limit"),
    ("linux.resources.memory.kernelTCP", MEANINGLESS, "cgroup v2 counts it with limit"),
    ("linux.resources.memory.swappiness", MEANINGLESS, "the guest has no swap"),
    ("linux.resources.memory.disableOOMKiller", REFUSED, "cgroup v2 can't do without it"),
    ("linux.resources.memory.useHierarchy", MEANINGLESS, "cgroup v2 always does"),
    ("linux.resources.memory.checkBeforeUpdate", APPLIED, "`runv update` checks always"),
    ("linux.resources.cpu.shares", APPLIED, "in the guest, and on the host for the VM"),
    ("linux.resources.cpu.quota", APPLIED, "in the guest, and the VM's number of CPUs"),
    ("linux.resources.cpu.burst", APPLIED, "in the guest"),
    ("linux.resources.cpu.period", APPLIED, "in the guest"),
    ("linux.resources.cpu.realtimeRuntime", REFUSED, "cgroup v2 has no such limit"),
    ("linux.resources.cpu.realtimePeriod", REFUSED, "cgroup v2 has no such limit"),
    ("linux.resources.cpu.cpus", APPLIED, "on the host, whose CPUs they are, for the VM"),
    ("linux.resources.cpu.mems", APPLIED, "on the host, whose nodes they are, for the VM"),
    ("linux.resources.cpu.idle", APPLIED, "in the guest"),
    ("linux.resources.pids.limit", APPLIED, "in the guest"),
    ("linux.resources.blockIO", MEANINGLESS, "it names the host's disks, which the VM lacks"),
    ("linux.resources.hugepageLimits[].pageSize", APPLIED, "in the guest"),
    ("linux.resources.hugepageLimits[].limit", APPLIED, "in the guest"),
    ("linux.resources.network.classID", MEANINGLESS, "cgroup v2 has none"),
    ("linux.resources.network.priorities", MEANINGLESS, "cgroup v2 has none"),
    ("linux.resources.rdma", REFUSED, "a VM has no RDMA device"),
    ("linux.resources.unified.*", APPLIED, "in the guest, as it is"),
    # -- other platforms
    ("vm.hypervisor", REFUSED, "which one is runv's choice: see `runv --driver`"),
    ("vm.kernel.path", APPLIED, "the guest kernel"),
    ("vm.kernel.parameters", APPLIED, "added to the guest kernel's command line"),
    ("vm.kernel.initrd", APPLIED, "the guest's initrd"),
    ("vm.image", REFUSED, "the guest starts from an initrd, not from a disk image"),
    ("solaris", REFUSED, "containers of Linux only"),
    ("windows", REFUSED, "containers of Linux only"),
    ("zos", REFUSED, "containers of Linux only"),
)

FIELDS = tuple(Field(*row) for row in _TABLE)


def check(config: dict[str, Any]) -> None:
    """Raises NotSupported for a field that is there and refused."""
    for field in FIELDS:
        if field.treatment != REFUSED:
            continue
        for path, value in _values(config, field.path.split("."), ""):
            if value not in (None, "", 0, False, [], {}):
                raise NotSupported(f"{path} is not supported: {field.note}")


def _values(value: Any, path: list[str], where: str) -> Iterator[tuple[str, Any]]:
    """The values that a path of the table leads to, each with its own path."""
    if not path:
        yield where, value
        return
    if not isinstance(value, dict):
        return
    key = path[0].removesuffix("[]")
    for name in list(value) if key == "*" else [key]:
        inner = value.get(name)
        here = f"{where}.{name}" if where else str(name)
        if not path[0].endswith("[]"):
            yield from _values(inner, path[1:], here)
        elif isinstance(inner, list):
            for index, item in enumerate(inner):
                yield from _values(item, path[1:], f"{here}[{index}]")
