"""The service of content: blobs by digest, written in pieces and checked."""

import asyncio
import os
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from ...errors import NotFound
from ..api import content_pb2 as api
from .contentstore import ContentStore, Writer, info_of
from .core import Core
from .fields import fields_of, masked_labels
from .filters import matches, parse
from .names import check_labels
from .schema import dump, now, stamp
from .server import NO_BOUNDS, Call
from .status import OutOfRange

_PIECE = 1 << 20
_LISTED = 100
_READ = os.O_RDONLY | os.O_CLOEXEC


class Content:
    """Blobs."""

    descriptor = api.DESCRIPTOR.services_by_name["Content"]
    bounds = NO_BOUNDS

    def __init__(self, core: Core) -> None:
        self._collector = core.collector
        self._store: ContentStore = core.content
        self._db = core.database

    async def info(self, request: api.InfoRequest, call: Call) -> api.InfoResponse:
        """Raises NotFound, BadRequest."""
        return api.InfoResponse(info=self._store.find(call.namespace, request.digest))

    async def update(self, request: api.UpdateRequest, call: Call) -> api.UpdateResponse:
        """Change labels. Raises NotFound, BadRequest."""
        old = self._store.find(call.namespace, request.info.digest)
        paths = request.update_mask.paths
        labels = check_labels(masked_labels(old.labels, request.info.labels, paths))
        with self._db.transaction() as db:
            db.execute(
                "UPDATE content SET labels = ?, updated = ? WHERE namespace = ? AND digest = ?",
                (dump(labels), now(), call.namespace, old.digest),
            )
        return api.UpdateResponse(info=self._store.find(call.namespace, old.digest))

    async def list(
        self, request: api.ListContentRequest, call: Call
    ) -> AsyncIterator[api.ListContentResponse]:
        """Those that filters let through, some in a message."""
        wanted = parse(request.filters)
        rows = self._db.rows(
            "SELECT digest, size, labels, created, updated FROM content WHERE namespace = ?"
            " ORDER BY digest",
            call.namespace,
        )
        infos = [info_of(*row) for row in rows]
        found = [info for info in infos if matches(wanted, fields_of(info))]
        for start in range(0, len(found), _LISTED):
            yield api.ListContentResponse(info=found[start : start + _LISTED])

    async def delete(self, request: api.DeleteContentRequest, call: Call) -> Empty:
        """Raises NotFound, BadRequest."""
        await self._store.remove(call.namespace, request.digest)
        self._collector.soon()
        return Empty()

    async def read(
        self, request: api.ReadContentRequest, call: Call
    ) -> AsyncIterator[api.ReadContentResponse]:
        """A blob's bytes from an offset on. Raises NotFound, OutOfRange."""
        info = self._store.find(call.namespace, request.digest)
        offset = request.offset
        if not 0 <= offset <= info.size or request.size < 0:
            raise OutOfRange(f"content {info.digest} has {info.size} bytes, none at {offset}")
        end = min(offset + request.size, info.size) if request.size else info.size
        file = await asyncio.to_thread(os.open, self._store.files.path(info.digest), _READ)
        try:
            while offset < end:
                data = await asyncio.to_thread(os.pread, file, min(_PIECE, end - offset), offset)
                if not data:
                    raise OutOfRange(f"content {info.digest} is damaged: it ends at {offset}")
                yield api.ReadContentResponse(offset=offset, data=data)
                offset += len(data)
        finally:
            os.close(file)

    async def status(self, request: api.StatusRequest, call: Call) -> api.StatusResponse:
        """Of a blob that is being written. Raises NotFound."""
        for status in self._store.statuses(call.namespace):
            if status.ref == request.ref:
                return api.StatusResponse(status=status)
        raise NotFound(f"no content is being written as {request.ref[:200]!r}")

    async def list_statuses(
        self, request: api.ListStatusesRequest, call: Call
    ) -> api.ListStatusesResponse:
        """Of all that are being written, and filters let through."""
        wanted = parse(request.filters)
        statuses = self._store.statuses(call.namespace)
        found = [status for status in statuses if matches(wanted, fields_of(status))]
        return api.ListStatusesResponse(statuses=found)

    async def abort(self, request: api.AbortRequest, call: Call) -> Empty:
        """Forget what was written. Raises NotFound, Unavailable."""
        await self._store.abort(call.namespace, request.ref)
        return Empty()

    async def write(
        self, requests: AsyncIterator[api.WriteContentRequest], call: Call
    ) -> AsyncIterator[api.WriteContentResponse]:
        """Bytes as they come, then a name for them. Raises what the store does."""
        writer: Writer | None = None
        try:
            async for request in requests:
                if writer is None:
                    writer = await self._store.open(
                        call, request.ref, request.total, request.expected
                    )
                yield await self._answer(writer, request)
        finally:
            if writer is not None:
                await self._store.close(writer)

    async def _answer(
        self, writer: Writer, request: api.WriteContentRequest
    ) -> api.WriteContentResponse:
        if request.action != api.WriteAction.STAT and (request.data or request.offset):
            await self._store.write(writer, request.offset, request.data)
        digest = writer.ingest.digest
        if request.action == api.WriteAction.COMMIT:
            digest = await self._store.commit(
                writer, request.total, request.expected, request.labels
            )
        return api.WriteContentResponse(
            action=request.action,
            started_at=stamp(writer.started),
            updated_at=stamp(writer.updated),
            offset=writer.ingest.offset,
            total=writer.total,
            digest=digest,
        )
