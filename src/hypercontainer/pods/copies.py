"""Pods that go on from a saved one: snapshots continued, and forks of what runs."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import BadRequest, HyperError
from ..sandbox import launch
from ..sandbox.resume import read_description
from ..sandbox.snapshot import disk_file
from ..system import memfd, processes, sparse
from . import oci
from .attempt import as_hyper_error
from .creation import container_of, free_id, named
from .model import Container, Pod, State, Status, now
from .mounts import all_mounts, volume_names
from .own_volumes import volumes_made
from .sandboxes import remove_tree
from .saving import Saver
from .snapshots import (
    EACH,
    Snapshot,
    SnapshotStore,
    memory_path,
    need_memory,
    new_memory,
    write_manifest,
)
from .spec import parse_pod, split_pod

if TYPE_CHECKING:
    from .service import PodService

log = logging.getLogger(__name__)

MAX_COPIES = 64
_OF_PODS = ("id", "hostname", "autoremove", "volumes", "portmappings", "publishallports")
_OF_NETWORKS = ("network", "networks", "interfaces")
_OF_CONTAINERS = ("name", "volumes", "ports")


@dataclass(frozen=True, slots=True)
class Saved:
    """What a copy is made of: a snapshot, and its RAM as a path; with `last` its disks are
    taken, not copied."""

    snapshot: Snapshot
    memory: str
    what: str
    last: bool = False


class Copies:
    """Snapshots of pods, and pods that are copies."""

    def __init__(self, service: "PodService") -> None:
        self._service = service
        self.store = SnapshotStore(service.layout.snapshots)
        self.saver = Saver(service.layout, service.images, service.volumes)

    # Saving

    async def snapshot(self, pod: Pod, name: str) -> Snapshot:
        """Save a running pod under a name; it goes on.

        Raises NotRunning, NotSupported, Conflict (the name), NotFound (a volume), NoSpace.
        """
        what = f"snapshot {name}"
        self.store.check_new(name)
        async with pod.lock:
            self.saver.check(pod, what)
            with self.store.temporary() as directory:
                about = await self._save_to_disk(pod, directory, what)
                snapshot = await asyncio.to_thread(
                    write_manifest, directory, {"name": name, **about}
                )
                self.store.keep(name, directory)
        self._service.events.pod("snapshot", pod)
        return Snapshot(self._service.layout.snapshots / name, snapshot.about)

    async def _save_to_disk(self, pod: Pod, directory: Path, what: str) -> dict[str, Any]:
        memory = new_memory(directory, what)
        try:
            return await self.saver.save(pod, directory, memory, what, disks=True)
        finally:
            os.close(memory)

    # Copies

    async def run(self, name: str, wanted: dict[str, Any]) -> Pod:
        """Continue a snapshot as another pod, which has `wanted` (see `snapshots.WANTED`).

        Raises NotFound, BadRequest, Conflict (damaged, or of another machine), NoSpace.
        """
        async with self.store.used(name) as (snapshot, memory):
            need_memory(EACH, f"snapshot {name}")
            saved = Saved(snapshot, memory_path(memory), f"snapshot {name}")
            return await self._copy(saved, wanted)

    async def fork(self, pod: Pod, count: int, wanted: dict[str, Any]) -> list[Pod]:
        """Make `count` copies of a running pod; all, or none. It goes on.

        Raises NotRunning, NotSupported, BadRequest, NoSpace.
        """
        what = f"fork {pod.id}"
        if not 1 <= count <= MAX_COPIES:
            raise BadRequest(f"{what}: {count} copies are not between 1 and {MAX_COPIES}")
        if count > 1 and (wanted.get("id") or wanted.get("portmappings")):
            raise BadRequest(f"{what}: {count} copies can't have one name or published port")
        need_memory((pod.spec.memory << 20) // 2 + count * EACH, what)
        with self.store.temporary() as directory:
            memory = memfd.new("hyper-fork", 0)
            try:
                async with pod.lock:
                    self.saver.check(pod, what)
                    about = await self.saver.save(pod, directory, memory, what, disks=True)
                memfd.seal(memory)
                saved = Saved(Snapshot(directory, about), memory_path(memory), what)
                return await self._copies(saved, count, wanted)
            finally:
                os.close(memory)

    async def _copies(self, saved: Saved, count: int, wanted: dict[str, Any]) -> list[Pod]:
        made: list[Pod] = []
        try:
            for number in range(count):
                last = number == count - 1
                own = Saved(saved.snapshot, saved.memory, saved.what, last)
                made.append(await self._copy(own, wanted))
        except BaseException:
            for pod in made:
                with contextlib.suppress(HyperError):
                    await self._service.remove(pod, force=True, volumes=True)
            raise
        return made

    async def _copy(self, saved: Saved, wanted: dict[str, Any]) -> Pod:
        service = self._service
        pod = self._define(saved, wanted)
        with (
            volumes_made(service, service.volumes, pod.containers),
            self._in_memory(pod),
            service.networking.defined(pod),
        ):
            async with pod.lock:
                await self._begin(pod, saved)
                service.store.add_pod(pod)
        service.events.pod("create", pod)
        for container in pod.containers:
            service.events.container("create", pod, container)
        service.events.pod("start", pod)
        assert pod.client is not None
        for container in pod.containers:
            service.events.container("start", pod, container)
            service.runner.watch(pod, container, pod.client)
        return pod

    def _define(self, saved: Saved, wanted: dict[str, Any]) -> Pod:
        """The pod that a copy is to be, with containers that nobody knows yet."""
        service, about = self._service, saved.snapshot.about
        left_out = (*_OF_PODS, *_OF_NETWORKS)
        raw = {k: v for k, v in about["raw"].items() if k.lower() not in left_out} | wanted
        if not raw.keys() & set(_OF_NETWORKS):
            raw |= _networks(about)
        raw["containers"] = [
            {
                **{k: v for k, v in c["raw"].items() if k.lower() not in _OF_CONTAINERS},
                "volumes": c["volumes"],
            }
            for c in about["containers"]
        ]
        raw["id"] = wanted.get("id") or free_id(service, len(raw["containers"]))
        spec = named(service, parse_pod(_with_names(raw, about)))
        if (spec.network == "user") != (about["network"] == "user"):
            raise BadRequest(
                f"{saved.what}: its network is {about['network']}: QEMU's user-mode network can't"
                " be taken from it, or given to it"
            )
        created = now()
        pod_raw, containers = split_pod(raw, spec.id)
        pod = Pod(spec.id, spec, pod_raw, created)
        for item, given, old in zip(spec.containers, containers, about["containers"], strict=True):
            # Its name may be another image's now.
            exact = replace(item, image=old["image_id"])
            container = container_of(service.images, pod, exact, given, created)
            container.spec, container.image = item, old["image"]
            container.state = State(status=Status.STARTING, boot=processes.boot_id())
            pod.containers.append(container)
        return pod

    @contextlib.contextmanager
    def _in_memory(self, pod: Pod) -> Iterator[None]:
        """Know the pod while it comes to be; when that fails, nothing is left of it."""
        self._service.add(pod)
        try:
            yield
        except BaseException:
            self._service.withdraw(pod)
            raise

    async def _begin(self, pod: Pod, saved: Saved) -> None:
        """Bring a copy to life. Raises HyperError; nothing is left then."""
        service = self._service
        try:
            disks = self._disk_paths(pod, saved)
            await asyncio.to_thread(self._place_disks, disks, saved)
            for container in pod.containers:
                for name in volume_names(container):
                    service.volumes.mark_filled(name)
            await service.networking.claim(pod)
            await self._launch(pod, saved, disks)
        except BaseException as error:
            await self._undo(pod)
            raise (as_hyper_error(error, pod) if isinstance(error, Exception) else error) from None
        for container in pod.containers:
            container.state.status = Status.RUNNING
            container.state.started_at = now()

    async def _launch(self, pod: Pod, saved: Saved, disks: dict[str, str]) -> None:
        service = self._service
        old = saved.snapshot.about["containers"]
        pairs = list(zip(old, pod.containers, strict=True))
        resume = {
            "directory": str(saved.snapshot.directory),
            "memory": saved.memory,
            "containers": {before["id"]: container.id for before, container in pairs},
            "disks": disks,
            "logs": {c.id: service.runner.log_for(pod, c) for c in pod.containers},
        }
        pod.client = client = await launch(
            pod.id,
            service.layout.sandbox(pod.id),
            service.runner.vm_of(pod, share=False),
            zygote=service.runner.zygote,
            resume=resume,
        )
        async with service.networking.wired(pod, client):
            pass
        await client.proceed({c.id: identity(pod, c) for c in pod.containers})
        for container in pod.containers:
            service.runner.note_pid(client, container)

    async def _undo(self, pod: Pod) -> None:
        pod.client = None
        await self._service.runner.end(pod)
        await self._service.networking.networks.release(pod.id)
        for container in pod.containers:
            await asyncio.to_thread(remove_tree, self._service.layout.container(container.id))

    def _disk_paths(self, pod: Pod, saved: Saved) -> dict[str, str]:
        """Where the disks of a copy are, by where those were that were saved."""
        service = self._service
        paths: dict[str, str] = {}
        for old, container in zip(saved.snapshot.about["containers"], pod.containers, strict=True):
            image = service.images.get(container.image_id)
            layers = [str(layer.path) for layer in image.layers]
            paths |= dict(zip(old["layers"], layers, strict=True))
            paths[old["upper"]] = str(service.layout.upper(container.id))
            for mount in all_mounts(container):
                if mount.volume.kind == "volume":
                    volume = service.volumes.get(mount.volume.name)
                    paths[old["volume_disks"][mount.path]] = str(volume.image)
                elif mount.volume.kind == "image":
                    paths[mount.volume.source] = mount.volume.source
        return paths

    def _place_disks(self, paths: dict[str, str], saved: Saved) -> None:
        """Put the writable disks where they belong. Blocks."""
        directory = saved.snapshot.directory
        for disk in read_description(str(directory))["disks"]:
            if disk["read_only"]:
                continue
            source, target = directory / disk_file(disk["lun"]), Path(paths[disk["path"]])
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.unlink(missing_ok=True)
            if saved.last:
                source.rename(target)
                continue
            with source.open("rb") as old, target.open("xb") as new:
                os.fchmod(new.fileno(), 0o600)
                sparse.copy(old.fileno(), new.fileno())


def identity(pod: Pod, container: Container) -> dict[str, Any]:
    """What a container of a copy has of its own: the payload of RENEWCONTAINER."""
    return {
        "hostname": pod.hostname,
        "machine_id": uuid4().hex,
        "boot_id": str(uuid4()),
        "files": oci.pod_files(pod, container),
    }


def _networks(about: dict[str, Any]) -> dict[str, Any]:
    """The networks of the pod that was saved, without addresses."""
    if about["networks"]:
        return {"networks": [{"name": name} for name in about["networks"]]}
    return {"network": about["network"] or "none"}


def _with_names(raw: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """With names for several containers, which may depend on each other by them."""
    containers = raw["containers"]
    if len(containers) == 1:
        return raw
    names = {c["name"]: f"{raw['id']}-{n}" for n, c in enumerate(about["containers"])}
    for container, old in zip(containers, about["containers"], strict=True):
        container["name"] = names[old["name"]]
        key = next((key for key in container if key.lower() == "depends"), None)
        if key:
            container[key] = [_renamed(item, names) for item in container[key] or []]
    return raw


def _renamed(dependency: Any, names: dict[str, str]) -> Any:
    if isinstance(dependency, str):
        return names.get(dependency, dependency)
    return {k: names.get(v, v) if k.lower() == "name" else v for k, v in dependency.items()}
