"""Keeping and forgetting credentials in the user's Docker configuration, or with its helper."""

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadRequest
from ..system.files import write_atomic
from .auth import Auth, config_path, read_config, run_helper
from .reference import DEFAULT_HOST

_HUB = "https://index.docker.io/v1/"


async def keep(host: str, auth: Auth) -> Path | None:
    """Keep credentials for a registry; the file that has them in plain, None with a helper.

    Raises BadRequest (a bad file, a failing helper), NotSupported (no helper), Timeout.
    """
    path = config_path()
    config = await asyncio.to_thread(read_config, path)
    key = _HUB if host == DEFAULT_HOST else host
    helper = _helper(config, key)
    if helper:
        username = "<token>" if auth.identity_token else auth.username
        secret = auth.identity_token or auth.password
        document = {"ServerURL": key, "Username": username, "Secret": secret}
        await run_helper(helper, "store", json.dumps(document))
        return None
    entry = {"auth": base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()}
    if auth.identity_token:
        entry["identitytoken"] = auth.identity_token
    await asyncio.to_thread(_write, path, {**config, "auths": {**_auths(config), key: entry}})
    return path


async def forget(host: str) -> bool:
    """Forget the credentials for a registry; whether there were any in the file, or a helper.

    Raises as `keep` does.
    """
    path = config_path()
    config = await asyncio.to_thread(read_config, path)
    found = False
    if helper := _helper(config, _HUB if host == DEFAULT_HOST else host):
        found = True
        await run_helper(helper, "erase", _HUB if host == DEFAULT_HOST else host)
    auths = _auths(config)
    kept = {key: entry for key, entry in auths.items() if key not in set(_keys(host))}
    if kept != auths:
        found = True
        await asyncio.to_thread(_write, path, {**config, "auths": kept})
    return found


def _keys(host: str) -> Iterator[str]:
    if host == DEFAULT_HOST:
        yield from (_HUB, "index.docker.io", "registry-1.docker.io", DEFAULT_HOST)
    else:
        yield from (host, f"https://{host}", f"http://{host}")


def _helper(config: dict[str, Any], key: str) -> str:
    helpers = config.get("credHelpers")
    found = helpers.get(key) if isinstance(helpers, dict) else None
    found = found or config.get("credsStore")
    return found if isinstance(found, str) else ""


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    auths = config.get("auths")
    return auths if isinstance(auths, dict) else {}


def _write(path: Path, config: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = path.resolve()
        write_atomic(os.fspath(target), json.dumps(config, indent="\t").encode())
    except OSError as error:
        raise BadRequest(f"can't write {path}: {error.strerror}".lower()) from None
