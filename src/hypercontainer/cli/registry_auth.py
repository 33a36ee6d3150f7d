"""Credentials of the person who pulls, for hyperd, which runs as another."""

from __future__ import annotations

import os


def header_for(image: str) -> str | None:
    """The X-Registry-Auth header for an image from ~/.docker/config.json, None without.

    Raises BadRequest (a bad name or configuration), NotSupported and Timeout (its helper).
    """
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    if not os.path.exists(os.path.join(directory, "config.json")):
        return None
    # Late: most have none, and asyncio takes longer to import than the rest of us.
    import asyncio

    from ..images.auth import from_config, to_header
    from ..images.reference import parse

    auth = asyncio.run(from_config(parse(image).host))
    return to_header(auth) if auth else None
