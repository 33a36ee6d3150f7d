"""The service that tells what there is in this daemon."""

import os
import uuid
from collections.abc import Iterable

from google.protobuf.empty_pb2 import Empty

from ...errors import NotFound, NotSupported
from ...system.database import Database
from ..api import introspection_pb2 as api
from ..api.types_pb2 import Platform
from .fields import fields_of
from .filters import matches, parse
from .server import NO_BOUNDS, Call, Service
from .snapshotstore import SNAPSHOTTER


class Introspection:
    """What there is in this daemon."""

    descriptor = api.DESCRIPTOR.services_by_name["Introspection"]
    bounds = NO_BOUNDS

    def __init__(self, database: Database, services: Iterable[Service]) -> None:
        """`services` are all others."""
        self._uuid = _server_uuid(database)
        platform = [Platform(os="linux", architecture="amd64")]
        names = [service.descriptor.full_name.split(".") for service in services]
        kinds = [
            ("io.containerd.content.v1", "content", platform),
            ("io.containerd.snapshotter.v1", SNAPSHOTTER, platform),
            ("io.containerd.differ.v1", "walking", platform),
            ("io.containerd.runtime.v2", "task", platform),
            *(
                ("io.containerd.grpc.v1", name[2], [])
                for name in names
                if name[:2] == ["containerd", "services"]
            ),
            ("io.containerd.grpc.v1", "introspection", []),
        ]
        self._plugins = [
            api.Plugin(type=kind, id=name, platforms=platforms) for kind, name, platforms in kinds
        ]

    async def plugins(self, request: api.PluginsRequest, _: Call) -> api.PluginsResponse:
        """Those that filters let through, by containerd's names."""
        asked = parse(request.filters)
        found = [plugin for plugin in self._plugins if matches(asked, fields_of(plugin))]
        return api.PluginsResponse(plugins=found)

    async def server(self, _: Empty, __: Call) -> api.ServerResponse:
        """Which process this is."""
        return api.ServerResponse(
            uuid=self._uuid, pid=os.getpid(), pidns=os.stat("/proc/self/ns/pid").st_ino
        )

    async def plugin_info(self, request: api.PluginInfoRequest, _: Call) -> api.PluginInfoResponse:
        """One of them. Raises NotFound, NotSupported."""
        if request.HasField("options"):
            raise NotSupported("no plugin here has options to ask by")
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                return api.PluginInfoResponse(plugin=plugin)
        raise NotFound(f"plugin {request.type[:80]}.{request.id[:80]}: not found")


def _server_uuid(database: Database) -> str:
    row = database.row("SELECT uuid FROM server")
    if row is not None:
        return str(row[0])
    made = str(uuid.uuid4())
    with database.transaction() as db:
        db.execute("INSERT INTO server VALUES (?)", (made,))
    return made
