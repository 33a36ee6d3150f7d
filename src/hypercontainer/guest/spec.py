"""OCI configurations (runtime-spec 1.1 config.json) as messages to the guest."""

from collections.abc import Callable
from typing import Any

from ..errors import BadRequest, NotSupported
from ..system.syscalls import MS_BIND, MS_RDONLY
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
    linux = _object(config, "linux")
    if linux.get("seccomp"):
        process = {**process, **seccomp_keys(_object(linux, "seccomp", "linux."))}
    return {
        "id": cid,
        "rootfs": rootfs,
        "readonly": bool(_object(config, "root").get("readonly", False)),
        "hostname": str(config.get("hostname", "")),
        "domainname": str(config.get("domainname", "")),
        "namespaces": _namespaces(linux),
        "propagation": _propagation(linux),
        "mounts": [
            _mount(m, f"mounts[{i}]", bind) for i, m in enumerate(config.get("mounts") or [])
        ],
        "devices": [
            _device(d, f"linux.devices[{i}]") for i, d in enumerate(linux.get("devices") or [])
        ],
        "masked": list(linux.get("maskedPaths") or []),
        "readonly_paths": list(linux.get("readonlyPaths") or []),
        "sysctl": {str(k): str(v) for k, v in (linux.get("sysctl") or {}).items()},
        "cgroup": cgroup_files(_object(linux, "resources", "linux.")),
        "process": process,
    }


def process_message(
    pid: str, process: dict[str, Any], *, stdio: int, stderr: int | None, stdin: bool
) -> dict[str, Any]:
    """The `process` object of NEWCONTAINER and EXECCMD. Raises BadRequest naming the key."""
    args = process.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(a, str) for a in args):
        raise BadRequest("process.args: a program is needed")
    cwd = process.get("cwd") or "/"
    if not str(cwd).startswith("/"):
        raise BadRequest(f"process.cwd: {cwd!r} is not an absolute path")
    size = process.get("consoleSize") or {}
    message: dict[str, Any] = {
        "id": pid,
        "args": args,
        "env": [str(e) for e in process.get("env") or []],
        "cwd": cwd,
        "user": _user(process.get("user") or {}),
        "terminal": bool(process.get("terminal", False)),
        "rows": int(size.get("height", 0)),
        "cols": int(size.get("width", 0)),
        "stdin": stdin,
        "stdio": stdio,
        "rlimits": [_rlimit(r) for r in process.get("rlimits") or []],
        "no_new_privs": bool(process.get("noNewPrivileges", False)),
    }
    if stderr is not None:
        message["stderr"] = stderr
    if process.get("oomScoreAdj") is not None:
        message["oom_score_adj"] = int(process["oomScoreAdj"])
    if process.get("capabilities") is not None:
        message["capabilities"] = {
            name: capability_mask(process["capabilities"].get(name) or [])
            for name in _CAPABILITY_SETS
        }
    return message


def seccomp_keys(seccomp: dict[str, Any]) -> dict[str, Any]:
    """The keys of a process that carry the container's seccomp filter."""
    from .seccomp import compile_filter

    program, flags = compile_filter(seccomp)
    return {"seccomp": program, "seccomp_flags": flags}


def _object(parent: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"{where}{key}: an object is expected")
    return value


def _user(user: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "uid": int(user.get("uid", 0)),
        "gid": int(user.get("gid", 0)),
        "groups": list(user.get("additionalGids") or []),
    }
    if user.get("username"):
        message["name"] = str(user["username"])
    if user.get("umask") is not None:
        message["umask"] = int(user["umask"])
    return message


def capability_mask(names: list[str]) -> str:
    """A set of `CAP_X` names as a hexadecimal mask. Raises BadRequest for an unknown name."""
    mask = 0
    for name in names:
        short = str(name).upper().removeprefix("CAP_")
        if short not in CAPABILITIES:
            raise BadRequest(f"process.capabilities: unknown capability {name!r}")
        mask |= 1 << CAPABILITIES.index(short)
    return f"{mask:x}"


def _rlimit(rlimit: dict[str, Any]) -> list[int]:
    name = str(rlimit.get("type", "")).removeprefix("RLIMIT_")
    if name not in RLIMITS:
        raise BadRequest(f"process.rlimits: unknown limit {rlimit.get('type')!r}")
    soft, hard = (_limit(rlimit.get(key)) for key in ("soft", "hard"))
    return [RLIMITS.index(name), soft, hard]


def _limit(value: Any) -> int:
    """A limit for the guest, where infinity (2^64-1 in Go's JSON) is -1."""
    if not isinstance(value, int):
        raise BadRequest(f"process.rlimits: {value!r} is not a number")
    return -1 if value < 0 or value >= (1 << 63) else value


def _namespaces(linux: dict[str, Any]) -> list[str]:
    kinds: list[str] = []
    for index, namespace in enumerate(linux.get("namespaces") or []):
        kind = namespace.get("type") if isinstance(namespace, dict) else None
        if kind not in _NAMESPACES:
            raise BadRequest(f"linux.namespaces[{index}].type: unknown namespace {kind!r}")
        if kind in ("user", "time"):
            raise NotSupported(f"linux.namespaces[{index}]: {kind} namespaces not supported yet")
        # The VM is the container's network namespace, whatever the host's path says.
        if kind != "network":
            kinds.append(kind)
    if "mount" not in kinds:
        kinds.append("mount")
    return kinds


def _propagation(linux: dict[str, Any]) -> int:
    name = linux.get("rootfsPropagation") or ""
    if name and name not in PROPAGATION:
        raise BadRequest(f"linux.rootfsPropagation: unknown propagation {name!r}")
    return PROPAGATION.get(name, 0)


def _mount(mount: dict[str, Any], where: str, bind: Bind) -> dict[str, Any]:
    target = mount.get("destination")
    if not isinstance(target, str) or not target.startswith("/"):
        raise BadRequest(f"{where}.destination: {target!r} is not an absolute path")
    options = parse_options([str(o) for o in mount.get("options") or []], f"{where} ({target})")
    fstype = str(mount.get("type") or "")
    message: dict[str, Any] = {
        "target": target,
        "flags": options.flags,
        "data": options.data,
        "propagation": options.propagation,
    }
    source = str(mount.get("source") or fstype)
    if fstype == "bind" or options.flags & MS_BIND:
        message["share"] = bind(source, bool(options.flags & MS_RDONLY))
        message["flags"] |= MS_BIND
    else:
        message["source"] = source
        message["fstype"] = fstype
    return message


def _device(device: dict[str, Any], where: str) -> dict[str, Any]:
    path, kind = device.get("path"), device.get("type")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f"{where}.path: {path!r} is not an absolute path")
    if kind not in ("c", "u", "b", "p"):
        raise BadRequest(f"{where}.type: unknown device type {kind!r}")
    return {
        "path": path,
        "type": "c" if kind == "u" else kind,
        "major": int(device.get("major", 0)),
        "minor": int(device.get("minor", 0)),
        "mode": int(device.get("fileMode") or 0o666),
        "uid": int(device.get("uid") or 0),
        "gid": int(device.get("gid") or 0),
    }


def cgroup_files(resources: dict[str, Any]) -> dict[str, str]:
    """linux.resources (config-linux.md "Control groups") as files of the guest's cgroup v2."""
    files: dict[str, str] = {}
    memory = _object(resources, "memory", "linux.resources.")
    limit = int(memory.get("limit") or 0)
    if limit:
        files["memory.max"] = "max" if limit < 0 else str(limit)
    if reservation := int(memory.get("reservation") or 0):
        files["memory.low"] = "max" if reservation < 0 else str(reservation)
    cpu = _object(resources, "cpu", "linux.resources.")
    quota, period = int(cpu.get("quota") or 0), int(cpu.get("period") or 100000)
    if quota or cpu.get("period"):
        files["cpu.max"] = f"{quota if quota > 0 else 'max'} {period}"
    if shares := int(cpu.get("shares") or 0):
        files["cpu.weight"] = str(_weight(shares))
    pids = int(_object(resources, "pids", "linux.resources.").get("limit") or 0)
    if pids:
        files["pids.max"] = "max" if pids < 0 else str(pids)
    return files


def _weight(shares: int) -> int:
    """cgroup v1's cpu.shares (2 to 262144) as v2's cpu.weight (1 to 10000)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142
