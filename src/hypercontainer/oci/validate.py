"""What is wrong with a configuration, found before any VM is started.

Each check raises BadRequest or NotSupported naming the field; where runc
checks the same thing, the words are its own.
"""

import os

from ..errors import BadRequest, HyperError
from ..guest.fields import read_object, read_objects, read_text
from ..guest.spec import container_message, process_message
from ..quick.types import Any
from . import fields, hooks


def check(config: dict[str, Any], rootfs: str = "") -> None:
    """Raises BadRequest or NotSupported for what can't be run."""
    fields.check(config)
    hooks.check(config)
    process = read_object(config, "process")
    check_process(process)
    _check_namespaces(config)
    if "kernel.hostname" in read_object(read_object(config, "linux"), "sysctl", "linux."):
        raise BadRequest(
            'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field'
        )
    if rootfs:
        _check_mount_points(config, rootfs)
    message = process_message("init", process, stdio=1, stderr=None, stdin=True)
    container_message("check", config, {}, _check_source, message)


def check_process(process: dict[str, Any]) -> None:
    """The checks of a process object, the container's first or a later one."""
    if not process.get("args"):
        raise BadRequest("args must not be empty: process.args names no program")
    cwd = read_text(process, "cwd", "process.")
    if not cwd:
        raise BadRequest("Cwd property must not be empty: process.cwd")
    if not cwd.startswith("/"):
        raise BadRequest(f"Cwd must be an absolute path: process.cwd is {cwd!r}")


def _check_mount_points(config: dict[str, Any], rootfs: str) -> None:
    """A symlink in the place of /proc or /sys is an attempt to get around the masks."""
    for where, mount in read_objects(config, "mounts"):
        kind = read_text(mount, "type", f"{where}.")
        path = f"{rootfs}/{read_text(mount, 'destination', f'{where}.')}"
        odd = os.path.islink(path) or (os.path.exists(path) and not os.path.isdir(path))
        if kind in ("proc", "sysfs") and odd:
            raise BadRequest(f"filesystem {kind!r} must be mounted on ordinary directory")


def _check_source(source: str, read_only: bool) -> str:
    if not os.path.exists(source):
        raise BadRequest(f"bind source: stat {source}: no such file or directory")
    return "share"


def _check_namespaces(config: dict[str, Any]) -> None:
    kinds: set[str] = set()
    for where, namespace in read_objects(read_object(config, "linux"), "namespaces", "linux."):
        kind = read_text(namespace, "type", f"{where}.")
        if kind in kinds:
            raise BadRequest(f"malformed spec file: duplicated ns {kind!r}: {where}")
        kinds.add(kind)
    for key in ("hostname", "domainname"):
        if read_text(config, key) and "uts" not in kinds:
            raise BadRequest(f"unable to set {key} without a private UTS namespace")


def read_process_file(path: str) -> dict[str, Any]:
    """The process object in the file of `exec --process`. Raises BadRequest."""
    from .bundle import read_json

    process = read_json(path, "process file")
    try:
        check_process(process)
    except HyperError as error:
        raise BadRequest(f"process file {path}: {error.message}") from None
    return process
