"""The service of snapshots."""

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from ..api import snapshots_pb2 as api
from .core import Core
from .fields import fields_of, masked_labels
from .filters import matches, parse
from .names import check_labels
from .server import Bounds, Call
from .snapshotstore import check_snapshotter

_LISTED = 100
# Removing or measuring many files takes its time.
_BOUNDS: Bounds = {"Commit": 600.0, "Remove": 600.0, "Usage": 600.0, "Cleanup": 600.0}


class Snapshots:
    """Layers and containers' files, as mounts."""

    descriptor = api.DESCRIPTOR.services_by_name["Snapshots"]
    bounds = _BOUNDS

    def __init__(self, core: Core) -> None:
        self._store = core.snapshots
        self._collector = core.collector

    async def prepare(
        self, request: api.PrepareSnapshotRequest, call: Call
    ) -> api.PrepareSnapshotResponse:
        """Make one to write to. Raises NotFound, Conflict, BadRequest, NoSpace."""
        check_snapshotter(request.snapshotter)
        mounts = await self._store.make(
            call, request.key, request.parent, api.Kind.ACTIVE, request.labels
        )
        return api.PrepareSnapshotResponse(mounts=mounts)

    async def view(self, request: api.ViewSnapshotRequest, call: Call) -> api.ViewSnapshotResponse:
        """Make one to read. Raises NotFound, Conflict, BadRequest, NoSpace."""
        check_snapshotter(request.snapshotter)
        mounts = await self._store.make(
            call, request.key, request.parent, api.Kind.VIEW, request.labels
        )
        return api.ViewSnapshotResponse(mounts=mounts)

    async def mounts(self, request: api.MountsRequest, call: Call) -> api.MountsResponse:
        """Raises NotFound, NotRunning."""
        check_snapshotter(request.snapshotter)
        return api.MountsResponse(mounts=self._store.mounts(call.namespace, request.key))

    async def commit(self, request: api.CommitSnapshotRequest, call: Call) -> Empty:
        """Raises NotFound, NotRunning, Conflict, BadRequest."""
        check_snapshotter(request.snapshotter)
        await self._store.commit(call, request.name, request.key, request.labels)
        return Empty()

    async def remove(self, request: api.RemoveSnapshotRequest, call: Call) -> Empty:
        """Raises NotFound, NotRunning."""
        check_snapshotter(request.snapshotter)
        await self._store.remove(call.namespace, request.key)
        return Empty()

    async def stat(self, request: api.StatSnapshotRequest, call: Call) -> api.StatSnapshotResponse:
        """Raises NotFound."""
        check_snapshotter(request.snapshotter)
        return api.StatSnapshotResponse(info=self._store.find(call.namespace, request.key)[1])

    async def update(
        self, request: api.UpdateSnapshotRequest, call: Call
    ) -> api.UpdateSnapshotResponse:
        """Change labels. Raises NotFound, BadRequest."""
        check_snapshotter(request.snapshotter)
        number, old = self._store.find(call.namespace, request.info.name)
        paths = request.update_mask.paths
        labels = check_labels(masked_labels(old.labels, request.info.labels, paths))
        self._store.set_labels(number, labels)
        return api.UpdateSnapshotResponse(info=self._store.find(call.namespace, old.name)[1])

    async def list(
        self, request: api.ListSnapshotsRequest, call: Call
    ) -> AsyncIterator[api.ListSnapshotsResponse]:
        """Those that filters let through, some in a message."""
        check_snapshotter(request.snapshotter)
        wanted = parse(request.filters)
        infos = self._store.all_of(call.namespace)
        found = [info for info in infos if matches(wanted, fields_of(info))]
        for start in range(0, len(found), _LISTED):
            yield api.ListSnapshotsResponse(info=found[start : start + _LISTED])

    async def usage(self, request: api.UsageRequest, call: Call) -> api.UsageResponse:
        """Bytes and files of its own. Raises NotFound."""
        check_snapshotter(request.snapshotter)
        size, inodes = await self._store.usage(call.namespace, request.key)
        return api.UsageResponse(size=size, inodes=inodes)

    async def cleanup(self, request: api.CleanupRequest, _: Call) -> Empty:
        """Remove what nothing refers to."""
        check_snapshotter(request.snapshotter)
        await self._collector.run()
        return Empty()
