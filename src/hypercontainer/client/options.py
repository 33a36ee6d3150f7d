"""What a container is made with, for programs: checked, and turned into a specification."""

from __future__ import annotations

import re

from ..errors import BadRequest
from . import spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypedDict

    class Options(TypedDict, total=False):
        """What `Client.create` and `Client.run` take, all optional.

        `env` are variables over the image's; `files` contents by absolute path, of mode 0644;
        `memory` of the VM is in MiB or a text such as "512m" (default 128), `cpus` a number of
        virtual CPUs; `network` is "none" (the default), "user", "bridge" or a network's name;
        `user` is USER[:GROUP], `workdir` a path; `entrypoint` takes the image's place; `volumes`
        has for a path in the container a volume's name or an absolute path of the host, maybe
        with ":ro" after it; `read_only` is about the root file system. `name` is the
        container's and its pod's; `platform` is the image's, OS/ARCHITECTURE. `pod_keys` and
        `container_keys` are further keys of the specification (docs/pod-spec.md). With `pull`
        false a missing image is an error.
        """

        env: Mapping[str, str]
        files: Mapping[str, bytes]
        memory: int | str
        cpus: int
        network: str
        user: str
        workdir: str
        entrypoint: Sequence[str]
        volumes: Mapping[str, str]
        read_only: bool
        name: str
        hostname: str
        labels: Mapping[str, str]
        platform: str
        pod_keys: Mapping[str, Any]
        container_keys: Mapping[str, Any]
        pull: bool


_MEMORY = re.compile(r"(\d{1,9})([mg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
NAMES = (
    *("env", "files", "memory", "cpus", "network", "user", "workdir", "entrypoint", "volumes"),
    *("read_only", "name", "hostname", "labels", "platform", "pod_keys", "container_keys"),
    "pull",
)


def memory_mib(value: int | str) -> int:
    """MiB of a number, or of `512m` or `2g`. Raises BadRequest."""
    match = _MEMORY.fullmatch(str(value))
    if not match or not int(match[1]):
        raise BadRequest(f"memory: {value!r} is not a number of MiB, or a size such as 512m or 2g")
    return int(match[1]) << (10 if match[2].lower() == "g" else 0)


def described(
    image: str, command: Sequence[str], options: Options, *, name: str, stdin: bool
) -> dict[str, Any]:
    """The pod that the options describe. Raises BadRequest, TypeError for an unknown option."""
    from . import filesets

    for key in options:
        if key not in NAMES:
            raise TypeError(f"unknown option {key!r}: there are {', '.join(NAMES)}")
    if isinstance(command, (str, bytes)):
        raise BadRequest("command: a list of words is wanted, not a text: use ['sh', '-c', text]")
    files = options.get("files", {})
    container_keys = dict(options.get("container_keys", {}))
    if files and filesets.fits_specification(files):
        container_keys["files"] = [*container_keys.get("files", ()), *filesets.injected(files)]
    return spec.pod(
        image,
        command,
        name=name,
        hostname=options.get("hostname", ""),
        stdin=stdin,
        env=options.get("env", {}),
        entrypoint=options.get("entrypoint"),
        workdir=options.get("workdir", ""),
        user=options.get("user", ""),
        labels=options.get("labels", {}),
        volumes=[_volume(path, source) for path, source in options.get("volumes", {}).items()],
        network=options.get("network", "none"),
        read_only=options.get("read_only", False),
        memory_mib=memory_mib(options.get("memory", 128)),
        cpus=options.get("cpus", 1),
        platform=options.get("platform", ""),
        container_keys=container_keys,
        pod_keys=options.get("pod_keys"),
    )


def _volume(path: str, source: str) -> dict[str, object]:
    name, _, how = source.partition(":")
    if not name or how not in ("", "ro", "rw"):
        raise BadRequest(f"volumes: {source!r} for {path} is not NAME or /PATH, with :ro or not")
    where = {"source": name} if name.startswith("/") else {"name": name}
    return {"path": path, "readOnly": how == "ro", "detail": where}
