"""Credentials for a registry from Docker's configuration (config.json, credential helpers)."""

from __future__ import annotations

import base64
import json
import os
import subprocess

from ..errors import HyperError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HUB = "https://index.docker.io/v1/"
_HELPER_BOUND = 20.0


def registry_of(image: str) -> str:
    """The registry that an image's name means: `docker.io` unless its first part is a host."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def header_for(image: str) -> str | None:
    """The X-Registry-Auth header for an image, None without credentials.

    Raises HyperError when the configuration can't be read or its helper fails.
    """
    registry = registry_of(image)
    config = _config()
    keys = (_HUB, "docker.io", "index.docker.io") if registry == "docker.io" else (registry,)
    for key in keys:
        found = _from_helper(config, key) or _from_file(config, key)
        if found:
            data = json.dumps(found | {"serveraddress": key}).encode()
            return base64.urlsafe_b64encode(data).decode()
    return None


def _config() -> dict[str, Any]:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    path = os.path.join(directory, "config.json")
    try:
        with open(path, "rb") as file:
            config = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HyperError(f"cannot read {path}: {error}") from error
    return config if isinstance(config, dict) else {}


def _from_file(config: dict[str, Any], key: str) -> dict[str, str] | None:
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    host = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for name in (key, host, f"https://{host}", f"https://{host}/", f"http://{host}"):
        entry = auths.get(name)
        if isinstance(entry, dict) and (found := _entry(entry)):
            return found
    return None


def _entry(entry: dict[str, Any]) -> dict[str, str] | None:
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    if token := entry.get("registrytoken"):
        return {"registrytoken": str(token)}
    if auth := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(auth)).decode().partition(":")
        except ValueError:
            return None
        return {"username": user, "password": password.rstrip("\0")}
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password", ""))}
    return None


def _from_helper(config: dict[str, Any], key: str) -> dict[str, str] | None:
    """What `docker-credential-NAME get` says (the protocol: server in, JSON out)."""
    helpers = config.get("credHelpers")
    name = (helpers.get(key) if isinstance(helpers, dict) else None) or config.get("credsStore")
    if not name:
        return None
    try:
        answer = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_BOUND,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HyperError(f"credential helper docker-credential-{name}: {error}") from error
    if answer.returncode:
        return None
    try:
        found = json.loads(answer.stdout)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise HyperError(f"credential helper docker-credential-{name}: bad answer") from error
    return (
        {"identitytoken": secret} if user == "<token>" else {"username": user, "password": secret}
    )
