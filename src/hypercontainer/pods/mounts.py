"""The volumes of containers: which they are, and how they are told to the sandbox."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BadRequest, HyperError, NotFound
from ..guest.spec import COPY_UP_VOLUME, DISK_MOUNT, DISK_OPTION
from ..volumes import Volume, VolumeStore
from ..volumes.diskimage import check_image
from ..volumes.model import DISK
from .model import Container
from .spec_volumes import VolumeMount, VolumeSpec, normal_path

_TMPFS = ("nosuid", "nodev", "noexec")
_NFS = ("nosuid", "nodev")


@dataclass(slots=True)
class Mounted:
    """Mounts of an OCI configuration, and the volumes that may get their first content by them."""

    mounts: list[dict[str, Any]] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)


def image_volumes(config: Mapping[str, Any], taken: Iterable[str]) -> list[VolumeMount]:
    """Anonymous volumes for the VOLUMEs of an image (its config object) at paths not taken."""
    declared = config.get("Volumes")
    paths = [p for p in declared if isinstance(p, str)] if isinstance(declared, dict) else []
    used = set(taken)
    found = []
    for path in sorted(map(normal_path, filter(None, paths))):
        if path != "/" and ".." not in path.split("/") and path not in used:
            used.add(path)
            found.append(VolumeMount(path, VolumeSpec("volume"), False))
    return found


def all_mounts(container: Container) -> list[VolumeMount]:
    """The volumes of a container, the image's too; anonymous ones with their names."""
    mounts = list(container.spec.volumes)
    mounts += image_volumes(container.image_config, (m.path for m in mounts))
    names = iter(container.anonymous)
    result = []
    for mount in mounts:
        if mount.anonymous:
            # A container of an earlier version has none for the image's volumes.
            name = next(names, "")
            if not name:
                continue
            mount = replace(mount, volume=replace(mount.volume, name=name))
        result.append(mount)
    return result


def volume_names(container: Container) -> set[str]:
    """The volumes of hyperd that a container uses."""
    return {m.volume.name for m in all_mounts(container) if m.volume.kind == "volume"}


def expand_volumes_from(raw: dict[str, Any], find: Callable[[str], Container]) -> dict[str, Any]:
    """A pod specification with `volumesFrom` of its containers as `volumes`.

    Each is `CONTAINER[:ro|rw]`; what is at a path already stays. Raises BadRequest, NotFound.
    """
    key = next((key for key in raw if key.lower() == "containers"), "")
    containers = raw.get(key)
    if not isinstance(containers, list):
        return raw
    expanded = [
        _expanded(item, f"{key}[{index}]", find) if isinstance(item, dict) else item
        for index, item in enumerate(containers)
    ]
    return {**raw, key: expanded}


def _expanded(item: dict[str, Any], where: str, find: Callable[[str], Container]) -> dict[str, Any]:
    given = next((key for key in item if key.lower() == "volumesfrom"), "")
    if not given:
        return item
    names = item[given] or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequest(f"{where}.{given}: an array of names of containers is expected")
    result = {key: value for key, value in item.items() if key != given}
    key = next((key for key in result if key.lower() == "volumes"), "volumes")
    own = result.get(key) or []
    volumes = list(own) if isinstance(own, list) else []
    taken = {normal_path(str(v.get("path", ""))) for v in volumes if isinstance(v, dict)}
    for index, name in enumerate(names):
        reference, _, mode = name.partition(":")
        if mode not in ("", "ro", "rw"):
            raise BadRequest(f"{where}.{given}[{index}]: {name!r} is not CONTAINER[:ro|rw]")
        for mount in all_mounts(find(reference)):
            if mount.path not in taken:
                taken.add(mount.path)
                volumes.append(as_given(mount, read_only=mount.read_only or mode == "ro"))
    return {**result, key: volumes if isinstance(own, list) else own}


def as_given(mount: VolumeMount, *, read_only: bool) -> dict[str, Any]:
    """A mount as a specification has it."""
    spec = mount.volume
    detail: dict[str, Any] = {"name": spec.name, "source": spec.source}
    detail |= {"fstype": spec.fstype, "cache": spec.cache, "options": ",".join(spec.options)}
    kinds = {"image": spec.format, "nfs": "nas", "tmpfs": "tmpfs"}
    detail["format"] = kinds.get(spec.kind, "")
    return {
        "path": mount.path,
        "readOnly": read_only,
        "noCopy": mount.no_copy,
        "detail": {key: value for key, value in detail.items() if value},
    }


def make_volumes(
    store: VolumeStore, mounts: Iterable[VolumeMount]
) -> tuple[list[str], list[Volume]]:
    """Make what is missing: the names of the anonymous ones, and all that were made.

    Raises BadRequest, Conflict, NoSpace; then nothing was made.
    """
    anonymous: list[str] = []
    made: list[Volume] = []
    try:
        for mount in mounts:
            spec = mount.volume
            if spec.kind != "volume":
                continue
            is_new = spec.name not in store
            volume = store.create(
                spec.name, spec.driver, spec.driver_options, spec.labels, pending=True
            )
            if mount.anonymous:
                anonymous.append(volume.name)
            if is_new:
                made.append(volume)
    except HyperError:
        for volume in made:
            store.remove_now(volume.name)
        raise
    return anonymous, made


def needs_share(store: VolumeStore, containers: Iterable[Container]) -> bool:
    """Whether the VM of these containers must have a share of directories."""
    return any(
        mount.volume.kind == "bind"
        or (
            mount.volume.kind == "volume"
            and mount.volume.name in store
            and _is_directory(store.get(mount.volume.name))
        )
        for container in containers
        for mount in all_mounts(container)
    )


def _is_directory(volume: Volume) -> bool:
    return volume.driver != DISK and volume.nfs is None


def oci_mounts(store: VolumeStore, container: Container, addresses: Mapping[str, str]) -> Mounted:
    """The mounts of a container's volumes; `addresses` are those of the NFS servers' names.

    Raises BadRequest or NotFound for what is not there or can't be used.
    """
    result = Mounted()
    for mount in all_mounts(container):
        spec = mount.volume
        where = f"volume at {mount.path}"
        if spec.kind == "volume":
            fill = not mount.no_copy and store.is_unfilled(spec.name)
            _add_volume(result, store.get(spec.name), mount, addresses, fill=fill)
        elif spec.kind == "bind":
            result.mounts.append(_bind(mount, _host_path(spec, where)))
        elif spec.kind == "image":
            check_image(Path(spec.source), spec.format, where)
            result.mounts.append(_disk(mount, spec.source, spec))
        elif spec.kind == "nfs":
            nfs = (spec.source, spec.fstype, spec.options)
            result.mounts.append(_nfs(mount, *nfs, addresses))
        else:
            options = ("rw", *_TMPFS, *spec.options, *_mode(mount, ro_only=True))
            result.mounts.append(_mount(mount.path, "tmpfs", "tmpfs", options))
    return result


def _add_volume(
    result: Mounted,
    volume: Volume,
    mount: VolumeMount,
    addresses: Mapping[str, str],
    *,
    fill: bool,
) -> None:
    """With `fill` it may be filled by this mount, even if that is read-only."""
    if (nfs := volume.nfs) is not None:
        entry = _nfs(mount, nfs.source, nfs.fstype, nfs.options, addresses)
        result.mounts.append(entry)
        return
    if volume.driver == DISK:
        entry = _disk(mount, str(volume.image), VolumeSpec("image", format="raw", fstype="ext4"))
        entry["options"].append(f"{DISK_OPTION}attach=rw")
    else:
        entry = _bind(mount, str(volume.data))
    if fill:
        entry["options"].append(COPY_UP_VOLUME)
        result.filled.append(volume.name)
    result.mounts.append(entry)


def _host_path(spec: VolumeSpec, where: str) -> str:
    """The host's path of a bind, made if it is missing and may be."""
    path = Path(spec.source)
    try:
        if not path.exists():
            if spec.must_exist:
                raise NotFound(f"{where}: {path} does not exist on the host")
            path.mkdir(parents=True, exist_ok=True)
        if not (path.is_dir() or path.is_file()):
            raise BadRequest(
                f"{where}: {path} is neither a directory nor a regular file: a socket, FIFO or"
                " device of the host does not work in a virtual machine"
            )
    except OSError as error:
        raise BadRequest(f"{where}: {path}: {(error.strerror or '').lower()}") from error
    return spec.source


def _mode(mount: VolumeMount, *, ro_only: bool = False) -> tuple[str, ...]:
    if mount.read_only:
        return ("ro",)
    return () if ro_only else ("rw",)


def _bind(mount: VolumeMount, source: str) -> dict[str, Any]:
    return _mount(mount.path, "bind", source, ("rbind", "rprivate", *_mode(mount)))


def _disk(mount: VolumeMount, source: str, spec: VolumeSpec) -> dict[str, Any]:
    given = {"format": spec.format, "fstype": spec.fstype, "cache": spec.cache}
    options = [f"{DISK_OPTION}{key}={value}" for key, value in given.items() if value]
    return _mount(mount.path, DISK_MOUNT, source, (*_mode(mount), *options))


def _nfs(
    mount: VolumeMount,
    source: str,
    fstype: str,
    options: tuple[str, ...],
    addresses: Mapping[str, str],
) -> dict[str, Any]:
    host = source.rpartition(":/")[0].strip("[]")
    address = addresses.get(host, host)
    return _mount(
        mount.path,
        fstype,
        source,
        (*_NFS, *options, f"addr={address}", *_mode(mount, ro_only=True)),
    )


def nfs_hosts(store: VolumeStore, container: Container) -> set[str]:
    """The names or addresses of the NFS servers of a container's volumes."""
    sources = []
    for mount in all_mounts(container):
        if mount.volume.kind == "nfs":
            sources.append(mount.volume.source)
        elif mount.volume.kind == "volume" and mount.volume.name in store:
            nfs = store.get(mount.volume.name).nfs
            sources += [nfs.source] if nfs is not None else []
    return {source.rpartition(":/")[0].strip("[]") for source in sources}


def _mount(path: str, kind: str, source: str, options: Iterable[str]) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": source, "options": list(options)}
