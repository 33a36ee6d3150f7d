"""The service that tells the version."""

from google.protobuf.empty_pb2 import Empty

from ... import __version__
from ..api import version_pb2 as api
from .server import NO_BOUNDS, Call


class Version:
    """Which release this is."""

    descriptor = api.DESCRIPTOR.services_by_name["Version"]
    bounds = NO_BOUNDS

    async def version(self, _: Empty, __: Call) -> api.VersionResponse:
        """The release; the revision tells that this is not containerd."""
        return api.VersionResponse(version=__version__, revision="runv-containerd")
