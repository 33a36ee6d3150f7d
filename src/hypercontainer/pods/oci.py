"""An image's configuration and a user's container as an OCI config.json, with Docker's rules.

Defaults are those of Docker (moby, oci/defaults.go and oci/caps/defaults.go): the
mounts, the 14 capabilities, the masked and read-only paths.
"""

import base64
import posixpath
from collections.abc import Mapping
from typing import Any

from ..errors import BadRequest
from .model import Container, Pod
from .place import hosts_lines, name_servers
from .spec_container import ContainerSpec
from .values import parse_signal

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SIGTERM = 15

MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
NAMESPACES = ["pid", "mount", "ipc", "uts", "cgroup", "network"]


def _mount(target: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
    return {
        "destination": target,
        "type": kind,
        "source": source or kind,
        "options": list(options),
    }


MOUNTS = [
    _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
    _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    _mount(
        "/dev/pts",
        "devpts",
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ),
    _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    _mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
    _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
]
SHM = _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", source="shm")


def command_of(spec: ContainerSpec, image: dict[str, Any]) -> list[str]:
    """The program and its arguments, combined as Docker does.

    An entrypoint of the user drops the image's CMD; `[""]` clears the image's
    entrypoint. Raises BadRequest when nothing is left to run.
    """
    command = list(spec.command or ())
    if spec.entrypoint is not None:
        entrypoint = [] if spec.entrypoint == ("",) else list(spec.entrypoint)
    else:
        entrypoint = list(image.get("Entrypoint") or [])
        command = command or list(image.get("Cmd") or [])
    if not entrypoint + command:
        raise BadRequest(
            f"no command for {spec.image}: the image names none: give one after the image"
        )
    return entrypoint + command


def environment_of(spec: ContainerSpec, image: dict[str, Any], hostname: str) -> list[str]:
    """The environment: Docker's defaults, then the image's variables, then the user's."""
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        env["TERM"] = "xterm"
    for entry in image.get("Env") or []:
        name, _, value = str(entry).partition("=")
        env[name] = value
    env.update(spec.env)
    return [f"{name}={value}" for name, value in env.items()]


def process_of(spec: ContainerSpec, image: dict[str, Any], hostname: str) -> dict[str, Any]:
    """The `process` object of the container's first program."""
    return {
        "terminal": spec.tty,
        "user": user_object(spec.user or str(image.get("User") or ""), spec.groups),
        "args": command_of(spec, image),
        "env": environment_of(spec, image, hostname),
        "cwd": spec.workdir or str(image.get("WorkingDir") or "") or "/",
        "capabilities": capability_sets(spec.security.capabilities()),
        "rlimits": [
            {"type": f"RLIMIT_{u.name.upper()}", "soft": u.soft, "hard": u.hard}
            for u in spec.ulimits
        ],
        "noNewPrivileges": spec.security.no_new_privileges,
    }


def user_object(user: str, groups: tuple[str, ...] | list[str] = ()) -> dict[str, Any]:
    """The `user` object: a `USER[:GROUP]` that the guest looks up, or root."""
    result: dict[str, Any] = {"uid": 0, "gid": 0}
    if user or groups:
        result["username"] = user or "0"
    if groups:
        result["additionalGids"] = list(groups)
    return result


def capability_sets(names: list[str]) -> dict[str, list[str]]:
    """Capabilities as a process of root has them; those of other users keep the bounding set."""
    return {kind: list(names) for kind in ("bounding", "effective", "permitted")}


def container_config(
    pod: Pod, container: Container, volumes: list[dict[str, Any]]
) -> dict[str, Any]:
    """The OCI configuration of a container; `volumes` are the mounts of its volumes.

    Raises BadRequest when there is nothing to run.
    """
    spec = container.spec
    covered = {volume["destination"] for volume in volumes}
    shm = {**SHM, "options": [*SHM["options"], f"size={spec.security.shm_size}"]}
    own = [mount for mount in (*MOUNTS, shm) if mount["destination"] not in covered]
    return {
        "ociVersion": "1.1.0",
        "process": process_of(spec, container.image_config, pod.hostname),
        "root": {"path": "rootfs", "readonly": spec.read_only},
        "hostname": pod.hostname,
        "mounts": sorted(own + volumes, key=lambda m: _depth(m["destination"])),
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "sysctl": dict(spec.sysctl),
            "resources": spec.limits.to_oci() if spec.limits.to_json() else {},
        },
    }


def _depth(path: str) -> int:
    return posixpath.normpath(path).count("/")


def injected_files(
    pod: Pod, container: Container, contents: Mapping[str, bytes]
) -> list[dict[str, Any]]:
    """The files put over the image's: those of the pod, then the user's.

    `contents` are those of files that have a URI.
    """
    files = pod_files(pod, container)
    for file in container.spec.files:
        content = contents[file.uri] if file.uri else file.content
        entry: dict[str, Any] = {"path": file.path, "mode": file.mode, "encoding": "base64"}
        entry["content"] = base64.b64encode(content).decode()
        if file.owner:
            entry["user"] = file.owner
        files.append(entry)
    return files


def pod_files(pod: Pod, container: Container) -> list[dict[str, Any]]:
    """/etc/hostname, hosts and resolv.conf, unless the user has something there."""
    own = {
        "/etc/hostname": pod.hostname + "\n",
        "/etc/hosts": _hosts(pod),
        "/etc/resolv.conf": _resolv_conf(pod),
    }
    for path in (
        *(m.path for m in container.spec.volumes),
        *(f.path for f in container.spec.files),
    ):
        own.pop(path, None)
    return [{"path": path, "content": text, "mode": 0o644} for path, text in own.items()]


def _hosts(pod: Pod) -> str:
    return (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "ff00::0\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n"
    ) + "".join(f"{address}\t{names}\n" for address, names in hosts_lines(pod))


def _resolv_conf(pod: Pod) -> str:
    lines = [f"nameserver {server}" for server in name_servers(pod)]
    if pod.spec.dns_search:
        lines.append("search " + " ".join(pod.spec.dns_search))
    if pod.spec.dns_options:
        lines.append("options " + " ".join(pod.spec.dns_options))
    return "".join(line + "\n" for line in lines)


def stop_signal_of(container: Container) -> int:
    """The signal that asks the container to end: the user's, the image's, or SIGTERM."""
    name = container.spec.stop_signal or str(container.image_config.get("StopSignal") or "")
    try:
        return parse_signal(name, "StopSignal") if name else SIGTERM
    except BadRequest:
        return SIGTERM
