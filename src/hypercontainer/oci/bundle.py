"""OCI bundles: a directory with config.json (runtime-spec 1.1)."""

import os

from ..errors import BadRequest, Conflict, NotSupported
from ..quick import json
from ..quick.types import Any

_MAX_CONFIG = 4 << 20

_DEFAULT_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def load(bundle: str) -> tuple[dict[str, Any], str]:
    """The configuration of a bundle and the absolute path of its root file system.

    Raises BadRequest, with what runc would say of it.
    """
    path = os.path.join(bundle, "config.json")
    config = read_json(path, "JSON specification file")
    if not isinstance(config.get("process"), dict):
        raise BadRequest(f"{path}: process: an object is expected")
    return config, _root(config, bundle)


def read_json(path: str, what: str) -> dict[str, Any]:
    """The object in a JSON file, which `what` says what it is. Raises BadRequest."""
    try:
        if os.path.getsize(path) > _MAX_CONFIG:
            raise BadRequest(f"{path} is larger than {_MAX_CONFIG >> 20} MiB")
        with open(path, "rb") as file:
            value = json.load(file)
    except FileNotFoundError:
        raise BadRequest(f"{what} {path} not found") from None
    except RecursionError:
        raise BadRequest(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"{path} is not JSON: {error}") from None
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {(error.strerror or 'error').lower()}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{path}: an object is expected")
    return value


def _root(config: dict[str, Any], bundle: str) -> str:
    _check_version(config)
    root = config.get("root")
    path = root.get("path") if isinstance(root, dict) else None
    if not isinstance(path, str) or not path:
        raise BadRequest("root.path: the path of the root file system is needed")
    path = os.path.join(os.path.abspath(bundle), path)
    if not os.path.isdir(path):
        raise BadRequest(f"invalid rootfs: stat {path}: no such file or directory")
    return path


def _check_version(config: dict[str, Any]) -> None:
    version = config.get("ociVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise BadRequest(f"ociVersion: {version!r} is not supported: 1.x is expected")


def write_spec(bundle: str, *, rootless: bool = False) -> int:
    """`runv spec`: write a default config.json. Raises Conflict when there is one."""
    if rootless:
        raise NotSupported(
            "spec --rootless is not supported: it makes a user namespace, and runv has the VM"
        )
    path = os.path.join(bundle, "config.json")
    if os.path.exists(path):
        raise Conflict(f"File {path} exists. Remove it first")
    import json

    with open(path, "w") as file:
        json.dump(default_spec(), file, indent="\t")
    return 0


def default_spec() -> dict[str, Any]:
    """A configuration that runs `sh` in `rootfs`, like runc's."""
    return {
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": dict.fromkeys(
                ("bounding", "effective", "permitted"), _DEFAULT_CAPABILITIES
            ),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runv",
        "mounts": _default_mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": [
                f"/proc/{name}"
                for name in ("acpi", "asound", "kcore", "keys", "timer_list", "sched_debug", "scsi")
            ]
            + ["/sys/firmware"],
            "readonlyPaths": [f"/proc/{n}" for n in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
        },
    }


def _default_mounts() -> list[dict[str, Any]]:
    strict = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*strict, "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": strict},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*strict, "ro"]},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*strict, "relatime", "ro"],
        },
    ]
