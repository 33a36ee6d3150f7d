"""The route that says what takes how much of the disk."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from ..errors import NotFound
from ..pods.life import disk_usage
from ..pods.model import Container
from ..pods.own_volumes import volume_users
from .context import Context, of
from .routing import Route


async def usage(request: web.Request) -> web.Response:
    """What images, containers and volumes take on disk, in bytes."""
    context = of(request)
    service = context.pods
    users = volume_users(service)
    volumes = {v.name: len(users.get(v.name, [])) for v in service.volumes.select({}, users)}
    return web.json_response(await asyncio.to_thread(_usage, context, service.containers, volumes))


def _usage(
    context: Context, containers: Sequence[Container], volumes: Mapping[str, int]
) -> dict[str, Any]:
    images, layout = context.images, context.pods.layout
    used = Counter(container.image_id for container in containers)
    return {
        "LayersSize": images.size,
        "ImagesReclaimable": images.reclaimable(used),
        "Images": [
            {
                "Id": image.id,
                "RepoTags": list(image.repo_tags),
                "Size": images.size_of(image),
                "Containers": used[image.id],
            }
            for image in images.list()
        ],
        "Containers": [
            {
                "Id": container.id,
                "Names": [f"/{container.name}"],
                "ImageID": container.image_id,
                "State": str(container.state.status),
                "SizeRw": disk_usage(layout.upper(container.id)),
            }
            for container in containers
        ],
        "Volumes": [
            {"Name": name, "UsageData": {"Size": _volume_size(context, name), "RefCount": count}}
            for name, count in volumes.items()
        ],
        "BuildCache": [],
    }


def _volume_size(context: Context, name: str) -> int:
    try:
        return context.pods.volumes.size(name)
    except NotFound:  # removed meanwhile
        return 0


ROUTES = [
    Route(
        "GET",
        "/system/df",
        usage,
        answer="`{LayersSize, ImagesReclaimable, Images, Containers, Volumes, BuildCache}`",
    )
]
