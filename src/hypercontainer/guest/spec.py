"""OCI configurations (runtime-spec 1.1 config.json) as messages to the guest."""

from ..errors import BadRequest, NotSupported
from ..quick.types import Any, Callable, Mapping
from ..system.syscalls import MS_BIND, MS_RDONLY
from .device_rules import device_program
from .fields import (
    read_integer,
    read_list,
    read_object,
    read_objects,
    read_text,
    read_texts,
)
from .filters import compiled
from .mounts import COPY_UP, PROPAGATION, parse_options, recursive_attributes
from .platforms import NATIVE
from .resources import cgroup_files
from .resources import cpu_weight as cpu_weight
from .scheduling import personality, scheduling_keys

Bind = Callable[[str, bool], str]

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

RLIMITS = (
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO"
    " RTTIME"
).split()

_NAMESPACES = ("pid", "mount", "ipc", "uts", "cgroup", "network", "user", "time")
_CLOCKS = {"monotonic": 1, "boottime": 7}

# Keys of a container's first process that its later ones get too.
CONTAINER_WIDE = ("seccomp", "seccomp_flags", "personality")


def container_message(
    cid: str,
    config: dict[str, Any],
    rootfs: dict[str, Any],
    bind: Bind,
    process: dict[str, Any],
    disks: Mapping[str, dict[str, str]] | None = None,
    architecture: str = NATIVE,
) -> dict[str, Any]:
    """The NEWCONTAINER payload of a configuration.

    `rootfs` is the guest's form of it; `bind` makes a host path (read-only or
    not) appear in the share and returns its path there; `process` comes from `process_message`;
    `disks` gives the guest's form of the images of `disk_mounts`, by path; `architecture` is the
    guest's.
    Raises BadRequest or NotSupported naming the key.
    """
    linux = read_object(config, "linux")
    if linux.get("seccomp"):
        process = {
            **process,
            **seccomp_keys(read_object(linux, "seccomp", "linux."), architecture),
        }
    if (persona := personality(linux)) is not None:
        process = {**process, "personality": persona}
    resources = read_object(linux, "resources", "linux.")
    return {
        "id": cid,
        "rootfs": rootfs,
        "readonly": bool(read_object(config, "root").get("readonly", False)),
        "hostname": read_text(config, "hostname"),
        "domainname": read_text(config, "domainname"),
        "namespaces": _namespaces(linux),
        "propagation": _propagation(linux),
        "mounts": [
            _mount(m, where, bind, disks or {}) for where, m in read_objects(config, "mounts")
        ],
        "devices": [_device(d, where) for where, d in read_objects(linux, "devices", "linux.")],
        "masked": read_texts(linux, "maskedPaths", "linux."),
        "readonly_paths": read_texts(linux, "readonlyPaths", "linux."),
        "sysctl": {k: str(v) for k, v in read_object(linux, "sysctl", "linux.").items()},
        "time_offsets": _time_offsets(linux),
        "cgroup": cgroup_files(resources),
        "device_rules": device_program(resources),
        "process": process,
    }


def process_message(
    pid: str, process: dict[str, Any], *, stdio: int, stderr: int | None, stdin: bool
) -> dict[str, Any]:
    """The `process` object of NEWCONTAINER and EXECCMD. Raises BadRequest naming the key.

    One with `idle` runs no program: it holds its container's files for others to look at.
    """
    idle = process.get("idle") is True
    args = read_texts(process, "args", "process.")
    if not args and not idle:
        raise BadRequest("process.args: a program is needed")
    cwd = read_text(process, "cwd", "process.") or "/"
    if not cwd.startswith("/"):
        raise BadRequest(f"process.cwd: {cwd!r} is not an absolute path")
    size = read_object(process, "consoleSize", "process.")
    message: dict[str, Any] = {
        "id": pid,
        "args": args,
        "env": _environment(read_texts(process, "env", "process.")),
        "cwd": cwd,
        "user": _user(read_object(process, "user", "process.")),
        "terminal": bool(process.get("terminal", False)),
        "rows": read_integer(size, "height", "process.consoleSize."),
        "cols": read_integer(size, "width", "process.consoleSize."),
        "stdin": stdin,
        "stdio": stdio,
        "idle": idle,
        "rlimits": [_rlimit(r, where) for where, r in read_objects(process, "rlimits", "process.")],
        "no_new_privs": bool(process.get("noNewPrivileges", False)),
        **scheduling_keys(process),
    }
    if stderr is not None:
        message["stderr"] = stderr
    if process.get("oomScoreAdj") is not None:
        message["oom_score_adj"] = read_integer(process, "oomScoreAdj", "process.")
    if process.get("capabilities") is not None:
        sets = read_object(process, "capabilities", "process.")
        message["capabilities"] = {
            name: capability_mask(read_texts(sets, name, "process.capabilities."))
            for name in _CAPABILITY_SETS
        }
    return message


def _environment(entries: list[str]) -> list[str]:
    """Of the entries with one name the last counts, as runc has it."""
    return list({entry.partition("=")[0]: entry for entry in entries}.values())


def seccomp_keys(seccomp: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The keys of a process that carry the container's seccomp filter."""
    program, flags = compiled(seccomp, architecture)
    return {"seccomp": program, "seccomp_flags": flags}


def _user(user: dict[str, Any]) -> dict[str, Any]:
    where = "process.user."
    message: dict[str, Any] = {
        "uid": read_integer(user, "uid", where),
        "gid": read_integer(user, "gid", where),
        "groups": read_list(user, "additionalGids", where),
    }
    if user.get("username"):
        message["name"] = read_text(user, "username", where)
    if user.get("umask") is not None:
        message["umask"] = read_integer(user, "umask", where)
    return message


def capability_mask(names: list[str]) -> str:
    """A set of `CAP_X` names as a hexadecimal mask. Raises BadRequest for an unknown name."""
    mask = 0
    for name in names:
        short = name.upper().removeprefix("CAP_")
        if short not in CAPABILITIES:
            raise BadRequest(f"process.capabilities: unknown capability {name!r}")
        mask |= 1 << CAPABILITIES.index(short)
    return f"{mask:x}"


def _rlimit(rlimit: dict[str, Any], where: str) -> list[int]:
    name = read_text(rlimit, "type", f"{where}.").removeprefix("RLIMIT_")
    if name not in RLIMITS:
        raise BadRequest(f"{where}.type: unknown limit {rlimit.get('type')!r}")
    soft, hard = (_limit(rlimit, key, f"{where}.") for key in ("soft", "hard"))
    return [RLIMITS.index(name), soft, hard]


def _limit(rlimit: dict[str, Any], key: str, where: str) -> int:
    """A limit for the guest, where infinity (2^64-1 in Go's JSON) is -1."""
    if rlimit.get(key) is None:
        raise BadRequest(f"{where}{key}: an integer is needed")
    value = read_integer(rlimit, key, where)
    return -1 if value < 0 or value >= (1 << 63) else value


def _namespaces(linux: dict[str, Any]) -> list[str]:
    kinds: list[str] = []
    for where, namespace in read_objects(linux, "namespaces", "linux."):
        kind = read_text(namespace, "type", f"{where}.")
        if kind not in _NAMESPACES:
            raise BadRequest(f"{where}.type: unknown namespace {kind!r}")
        if kind == "user":
            raise NotSupported(f"{where}: user namespaces are not supported: the VM is the wall")
        # The VM is the container's network namespace, whatever the host's path says.
        if kind != "network":
            kinds.append(kind)
    # Without one of its own a container would see the guest's whole tree of control groups.
    kinds += [kind for kind in ("mount", "cgroup") if kind not in kinds]
    return kinds


def _propagation(linux: dict[str, Any]) -> int:
    name = read_text(linux, "rootfsPropagation", "linux.")
    if name and name not in PROPAGATION:
        raise BadRequest(f"linux.rootfsPropagation: unknown propagation {name!r}")
    return PROPAGATION.get(name, 0)


def _time_offsets(linux: dict[str, Any]) -> list[list[int]]:
    """linux.timeOffsets as [clock id, seconds, nanoseconds]."""
    found = []
    offsets = read_object(linux, "timeOffsets", "linux.")
    for clock in offsets:
        if clock not in _CLOCKS:
            raise BadRequest(f"linux.timeOffsets: unknown clock {clock!r}")
        offset = read_object(offsets, clock, "linux.timeOffsets.")
        where = f"linux.timeOffsets.{clock}."
        seconds, nanoseconds = (read_integer(offset, key, where) for key in ("secs", "nanosecs"))
        if abs(seconds) >= 1 << 40 or not 0 <= nanoseconds < 10**9:
            raise BadRequest(f"linux.timeOffsets.{clock}: {offset} is out of range")
        found.append([_CLOCKS[clock], seconds, nanoseconds])
    kinds = [n.get("type") for _, n in read_objects(linux, "namespaces", "linux.")]
    if found and "time" not in kinds:
        raise BadRequest("linux.timeOffsets: a time namespace is needed")
    return found


DISK_MOUNT = "hyper-disk"
"""The type of a mount of a disk image, whose `source` is its path on the host."""
DISK_OPTION = "hyper-"
COPY_UP_VOLUME = "hyper-copyup"
"""The option of a volume that, when empty, starts with what the image has at its place."""


def disk_mounts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The mounts of disk images: path, format, cache, fstype and read_only of each.

    One that is read-only is attached so, unless it has the option `hyper-attach=rw`: a journal
    that a killed virtual machine has left must be replayed.
    """
    found = []
    for where, mount in read_objects(config, "mounts"):
        if mount.get("type") == DISK_MOUNT:
            options = read_texts(mount, "options", f"{where}.")
            given = dict(o.partition("=")[::2] for o in options if o.startswith(DISK_OPTION))
            disk = {
                key: given.get(f"{DISK_OPTION}{key}", "") for key in ("format", "cache", "fstype")
            }
            path = read_text(mount, "source", f"{where}.")
            read_only = "ro" in options and given.get(f"{DISK_OPTION}attach") != "rw"
            found.append({**disk, "path": path, "read_only": read_only})
    return found


def _is_own(option: str, fstype: str) -> bool:
    """Whether a mount option is hyperd's word to the sandbox, and none of mount(8)."""
    own = fstype == DISK_MOUNT and option.startswith(DISK_OPTION)
    return own or option == COPY_UP_VOLUME


def _mount(
    mount: dict[str, Any], where: str, bind: Bind, disks: Mapping[str, dict[str, str]]
) -> dict[str, Any]:
    target = read_text(mount, "destination", f"{where}.")
    if not target:
        raise BadRequest(f"{where}.destination: a path is needed")
    # A relative one, which the specification calls deprecated, starts at the root.
    target = target if target.startswith("/") else f"/{target}"
    given = read_texts(mount, "options", f"{where}.")
    fstype = read_text(mount, "type", f"{where}.")
    names = [name for name in given if not _is_own(name, fstype)]
    options = parse_options(names, f"{where} ({target})")
    message: dict[str, Any] = {
        "target": target,
        "flags": options.flags,
        "data": options.data,
        "propagation": options.propagation,
    }
    if any(attributes := recursive_attributes(names)):
        message["attributes"] = attributes
    if COPY_UP in names:
        if fstype != "tmpfs":
            raise BadRequest(f"{where} ({target}): {COPY_UP} is an option of tmpfs")
        message["copy_up"] = True
    fill = COPY_UP_VOLUME in given
    if fill:
        message["copy_up"] = True
    source = read_text(mount, "source", f"{where}.") or fstype
    if fstype == DISK_MOUNT:
        message |= {**disks[source], "path": "_data", "data": ""}
        message["flags"] |= MS_BIND
    elif fstype == "bind" or options.flags & MS_BIND:
        # What the guest is to fill first can't be read-only on the host's side already.
        message["share"] = bind(source, bool(options.flags & MS_RDONLY) and not fill)
        message["flags"] |= MS_BIND
    else:
        message["source"] = source
        message["fstype"] = fstype
    return message


def _device(device: dict[str, Any], where: str) -> dict[str, Any]:
    path, kind = read_text(device, "path", f"{where}."), device.get("type")
    if not path.startswith("/"):
        raise BadRequest(f"{where}.path: {path!r} is not an absolute path")
    if kind not in ("c", "u", "b", "p"):
        raise BadRequest(f"{where}.type: unknown device type {kind!r}")
    return {
        "path": path,
        "type": "c" if kind == "u" else kind,
        "major": read_integer(device, "major", f"{where}."),
        "minor": read_integer(device, "minor", f"{where}."),
        "mode": read_integer(device, "fileMode", f"{where}.", 0o666),
        "uid": read_integer(device, "uid", f"{where}."),
        "gid": read_integer(device, "gid", f"{where}."),
    }
