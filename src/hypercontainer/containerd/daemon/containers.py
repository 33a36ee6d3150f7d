"""The service of containers: what clients say of them; what runs are tasks."""

from collections.abc import AsyncIterator, Callable

from google.protobuf.empty_pb2 import Empty

from ...errors import BadRequest, Conflict, NotFound, NotRunning
from ..api import containers_pb2 as api
from ..api import events_pb2 as events
from .core import Core
from .fields import fields_of, masked_labels
from .filters import matches, parse
from .names import check_identifier, check_labels
from .schema import dump, now, stamp, touch_namespace
from .server import NO_BOUNDS, Call

_CHANGEABLE = ("spec", "extensions", "image", "snapshot_key", "runtime")


class Containers:
    """Descriptions of containers."""

    descriptor = api.DESCRIPTOR.services_by_name["Containers"]
    bounds = NO_BOUNDS

    def __init__(self, core: Core, has_task: Callable[[str, str], bool]) -> None:
        """`has_task` tells whether a container of a namespace has a task."""
        self._core = core
        self._db = core.database
        self._has_task = has_task

    def find(self, namespace: str, container_id: str) -> api.Container:
        """One container. Raises NotFound."""
        row = self._db.row(
            "SELECT data FROM containers WHERE namespace = ? AND id = ?", namespace, container_id
        )
        if row is None:
            raise NotFound(f"container {container_id!r} in namespace {namespace!r}: not found")
        return api.Container.FromString(row[0])

    async def get(self, request: api.GetContainerRequest, call: Call) -> api.GetContainerResponse:
        """Raises NotFound."""
        return api.GetContainerResponse(container=self.find(call.namespace, request.id))

    def _list(self, request: api.ListContainersRequest, call: Call) -> list[api.Container]:
        wanted = parse(request.filters)
        query = "SELECT data FROM containers WHERE namespace = ? ORDER BY id"
        found = [api.Container.FromString(row[0]) for row in self._db.rows(query, call.namespace)]
        return [one for one in found if matches(wanted, fields_of(one))]

    async def list(
        self, request: api.ListContainersRequest, call: Call
    ) -> api.ListContainersResponse:
        """Those that filters let through."""
        return api.ListContainersResponse(containers=self._list(request, call))

    async def list_stream(
        self, request: api.ListContainersRequest, call: Call
    ) -> AsyncIterator[api.ListContainerMessage]:
        """The same, one by one."""
        for container in self._list(request, call):
            yield api.ListContainerMessage(container=container)

    async def create(
        self, request: api.CreateContainerRequest, call: Call
    ) -> api.CreateContainerResponse:
        """Raises Conflict, BadRequest."""
        container, namespace = request.container, call.namespace
        check_identifier(container.id, "container id")
        check_labels(container.labels)
        if not container.runtime.name:
            raise BadRequest(f"container {container.id}: no runtime is named")
        if not container.spec.type_url:
            raise BadRequest(f"container {container.id}: no spec is given")
        if container.snapshot_key and not container.snapshotter:
            raise BadRequest(f"container {container.id}: a snapshot's key without a snapshotter")
        query = "SELECT 1 FROM containers WHERE namespace = ? AND id = ?"
        if self._db.row(query, namespace, container.id):
            raise Conflict(f"container {container.id!r}: already exists")
        container.created_at.CopyFrom(stamp(now()))
        self._save(namespace, container)
        runtime = events.ContainerCreate.Runtime(name=container.runtime.name)
        if container.runtime.HasField("options"):
            runtime.options.CopyFrom(container.runtime.options)
        event = events.ContainerCreate(id=container.id, image=container.image, runtime=runtime)
        self._core.events.publish(namespace, "/containers/create", event)
        return api.CreateContainerResponse(container=container)

    def _save(self, namespace: str, container: api.Container) -> None:
        container.updated_at.CopyFrom(stamp(now()))
        row = (
            *(namespace, container.id, container.SerializeToString()),
            *(container.snapshotter, container.snapshot_key, dump(container.labels)),
        )
        with self._db.transaction() as db:
            touch_namespace(db, namespace)
            db.execute("INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?, ?, ?)", row)

    async def update(
        self, request: api.UpdateContainerRequest, call: Call
    ) -> api.UpdateContainerResponse:
        """Change what a mask names, or all that may change. Raises NotFound, BadRequest."""
        new, namespace = request.container, call.namespace
        old = self.find(namespace, new.id)
        paths = [path.replace("snapshotkey", "snapshot_key") for path in request.update_mask.paths]
        if not paths and new.snapshotter != old.snapshotter:
            raise BadRequest(f"container {new.id}: its snapshotter can't be changed")
        labels = check_labels(masked_labels(old.labels, new.labels, paths, *_CHANGEABLE))
        for name in paths or _CHANGEABLE:
            _take_over(old, new, name)
        old.labels.clear()
        old.labels.update(labels)
        self._save(namespace, old)
        event = events.ContainerUpdate(
            id=old.id, image=old.image, labels=labels, snapshot_key=old.snapshot_key
        )
        self._core.events.publish(namespace, "/containers/update", event)
        return api.UpdateContainerResponse(container=old)

    async def delete(self, request: api.DeleteContainerRequest, call: Call) -> Empty:
        """Forget one that has no task. Raises NotFound, NotRunning."""
        namespace = call.namespace
        container = self.find(namespace, request.id)
        if self._has_task(namespace, container.id):
            raise NotRunning(f"container {container.id} has a task: delete that first")
        with self._db.transaction() as db:
            query = "DELETE FROM containers WHERE namespace = ? AND id = ?"
            db.execute(query, (namespace, container.id))
        event = events.ContainerDelete(id=container.id)
        self._core.events.publish(namespace, "/containers/delete", event)
        self._core.collector.soon()
        return Empty()


def _take_over(old: api.Container, new: api.Container, path: str) -> None:
    """Give a container the other's field, or its extension, at a mask's path."""
    name, dot, key = path.partition(".")
    if name == "image":
        old.image = new.image
    elif name == "snapshot_key":
        old.snapshot_key = new.snapshot_key
    elif name == "spec":
        old.spec.CopyFrom(new.spec)
    elif name == "runtime":
        old.runtime.CopyFrom(new.runtime)
    elif name == "extensions" and not dot:
        old.extensions.clear()
        old.extensions.MergeFrom(new.extensions)
    elif name == "extensions":
        old.extensions.pop(key, None)
        if key in new.extensions:
            old.extensions[key].CopyFrom(new.extensions[key])
