"""The table of all routes."""

from collections.abc import Sequence

from . import (
    routes_build,
    routes_containers,
    routes_events,
    routes_files,
    routes_images,
    routes_life,
    routes_making,
    routes_networks,
    routes_pods,
    routes_registry,
    routes_services,
    routes_snapshots,
    routes_stats,
    routes_streams,
    routes_system,
    routes_usage,
    routes_volumes,
)
from .routing import Route

_PROGRESS = (
    "Progress comes as JSON objects, one a line, in Docker's form. An error after the first line"
    ' is a line `{"error": text, "errorDetail": {code, message}}`.'
)
_STATES = (
    "`State` is `created`, `starting`, `running`, `paused`, `restarting`, `exited` or `removing`."
    " `State.Reason` of `/container/json` says why a container ended, `State.Error` why it did"
    " not start."
)

GROUPS: tuple[tuple[str, str, Sequence[Route]], ...] = (
    ("System", "", [*routes_system.ROUTES, *routes_usage.ROUTES, *routes_events.ROUTES]),
    ("Pods", "", routes_pods.ROUTES),
    (
        "Containers and processes",
        _STATES,
        [
            *routes_containers.ROUTES,
            *routes_streams.ROUTES,
            *routes_life.ROUTES,
            *routes_stats.ROUTES,
        ],
    ),
    ("Snapshots and forks", "", routes_snapshots.ROUTES),
    ("Files of containers", "", routes_files.ROUTES),
    (
        "Images",
        _PROGRESS,
        [
            *routes_images.ROUTES,
            *routes_registry.ROUTES,
            *routes_making.ROUTES,
            *routes_build.ROUTES,
        ],
    ),
    ("Volumes", "", routes_volumes.ROUTES),
    ("Networks, ports and in-pod services", "", [*routes_networks.ROUTES, *routes_services.ROUTES]),
)
"""All routes by subject, with a text on each."""


def routes() -> list[Route]:
    """All routes, without versions."""
    return [route for _, _, group in GROUPS for route in group]
