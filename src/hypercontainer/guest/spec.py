"""OCI configurations (runtime-spec 1.1 config.json) as messages to the guest."""

from collections.abc import Callable
from typing import Any

from ..errors import BadRequest, NotSupported
from ..system.syscalls import MS_BIND, MS_RDONLY
from .fields import (
    read_integer,
    read_list,
    read_object,
    read_objects,
    read_text,
    read_texts,
)
from .mounts import PROPAGATION, parse_options

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


def container_message(
    cid: str, config: dict[str, Any], rootfs: dict[str, Any], bind: Bind, process: dict[str, Any]
) -> dict[str, Any]:
    """The NEWCONTAINER payload of a configuration.

    `rootfs` is the guest's form of it; `bind` makes a host path (read-only or
    not) appear in the share and returns its path there; `process` comes from `process_message`.
    Raises BadRequest or NotSupported naming the key.
    """
    linux = read_object(config, "linux")
    if linux.get("seccomp"):
        process = {**process, **seccomp_keys(read_object(linux, "seccomp", "linux."))}
    return {
        "id": cid,
        "rootfs": rootfs,
        "readonly": bool(read_object(config, "root").get("readonly", False)),
        "hostname": read_text(config, "hostname"),
        "domainname": read_text(config, "domainname"),
        "namespaces": _namespaces(linux),
        "propagation": _propagation(linux),
        "mounts": [_mount(m, where, bind) for where, m in read_objects(config, "mounts")],
        "devices": [_device(d, where) for where, d in read_objects(linux, "devices", "linux.")],
        "masked": read_texts(linux, "maskedPaths", "linux."),
        "readonly_paths": read_texts(linux, "readonlyPaths", "linux."),
        "sysctl": {k: str(v) for k, v in read_object(linux, "sysctl", "linux.").items()},
        "cgroup": cgroup_files(read_object(linux, "resources", "linux.")),
        "process": process,
    }


def process_message(
    pid: str, process: dict[str, Any], *, stdio: int, stderr: int | None, stdin: bool
) -> dict[str, Any]:
    """The `process` object of NEWCONTAINER and EXECCMD. Raises BadRequest naming the key."""
    args = read_texts(process, "args", "process.")
    if not args:
        raise BadRequest("process.args: a program is needed")
    cwd = read_text(process, "cwd", "process.") or "/"
    if not cwd.startswith("/"):
        raise BadRequest(f"process.cwd: {cwd!r} is not an absolute path")
    size = read_object(process, "consoleSize", "process.")
    message: dict[str, Any] = {
        "id": pid,
        "args": args,
        "env": read_texts(process, "env", "process."),
        "cwd": cwd,
        "user": _user(read_object(process, "user", "process.")),
        "terminal": bool(process.get("terminal", False)),
        "rows": read_integer(size, "height", "process.consoleSize."),
        "cols": read_integer(size, "width", "process.consoleSize."),
        "stdin": stdin,
        "stdio": stdio,
        "rlimits": [_rlimit(r, where) for where, r in read_objects(process, "rlimits", "process.")],
        "no_new_privs": bool(process.get("noNewPrivileges", False)),
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


def seccomp_keys(seccomp: dict[str, Any]) -> dict[str, Any]:
    """The keys of a process that carry the container's seccomp filter."""
    from .seccomp import compile_filter

    program, flags = compile_filter(seccomp)
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
        if kind in ("user", "time"):
            raise NotSupported(f"{where}: {kind} namespaces not supported yet")
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


def _mount(mount: dict[str, Any], where: str, bind: Bind) -> dict[str, Any]:
    target = read_text(mount, "destination", f"{where}.")
    if not target.startswith("/"):
        raise BadRequest(f"{where}.destination: {target!r} is not an absolute path")
    options = parse_options(read_texts(mount, "options", f"{where}."), f"{where} ({target})")
    fstype = read_text(mount, "type", f"{where}.")
    message: dict[str, Any] = {
        "target": target,
        "flags": options.flags,
        "data": options.data,
        "propagation": options.propagation,
    }
    source = read_text(mount, "source", f"{where}.") or fstype
    if fstype == "bind" or options.flags & MS_BIND:
        message["share"] = bind(source, bool(options.flags & MS_RDONLY))
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


def cgroup_files(resources: dict[str, Any]) -> dict[str, str]:
    """linux.resources (config-linux.md "Control groups") as files of the guest's cgroup v2."""
    files: dict[str, str] = {}
    where = "linux.resources."
    memory = read_object(resources, "memory", where)
    if limit := read_integer(memory, "limit", f"{where}memory."):
        files["memory.max"] = "max" if limit < 0 else str(limit)
    if reservation := read_integer(memory, "reservation", f"{where}memory."):
        files["memory.low"] = "max" if reservation < 0 else str(reservation)
    cpu = read_object(resources, "cpu", where)
    quota, period = (read_integer(cpu, key, f"{where}cpu.") for key in ("quota", "period"))
    if quota or period:
        files["cpu.max"] = f"{quota if quota > 0 else 'max'} {period or 100000}"
    if shares := read_integer(cpu, "shares", f"{where}cpu."):
        files["cpu.weight"] = str(_weight(shares))
    if pids := read_integer(read_object(resources, "pids", where), "limit", f"{where}pids."):
        files["pids.max"] = "max" if pids < 0 else str(pids)
    return files


def _weight(shares: int) -> int:
    """cgroup v1's cpu.shares (2 to 262144) as v2's cpu.weight (1 to 10000)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142
