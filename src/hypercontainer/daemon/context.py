"""What the handlers of requests work with."""

from dataclasses import dataclass

from aiohttp import web

from ..images import ImageStore
from ..pods.service import PodService
from .config import Config


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of this hyperd."""

    config: Config
    pods: PodService
    images: ImageStore


CONTEXT = web.AppKey("context", Context)


def of(request: web.Request) -> Context:
    """The context of a request."""
    return request.app[CONTEXT]
