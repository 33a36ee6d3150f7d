"""Registry credentials: given with a request, or from the user's Docker configuration.

The configuration is `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; helper programs are
called as `docker-credential-NAME get`, with the registry's name on standard input.
"""

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest, NotSupported, Timeout
from .reference import DEFAULT_HOST

HELPER_TIMEOUT = 30.0
_CONFIG_LIMIT = 1 << 20
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io", "docker.io")


@dataclass(frozen=True)
class Auth:
    """Credentials for one registry; all empty: none."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Auth(username={self.username!r}, …)"

    @property
    def basic(self) -> str:
        """The value of an HTTP Basic `Authorization` header, empty without a user."""
        if not self.username:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def from_header(value: str) -> Auth | None:
    """The credentials of an `X-Registry-Auth` header (base64url JSON); None if it has none."""
    if not value:
        return None
    try:
        data = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except (binascii.Error, ValueError, UnicodeDecodeError):
        raise BadRequest("bad X-Registry-Auth header: it is not base64url JSON") from None
    if not isinstance(data, dict):
        raise BadRequest("bad X-Registry-Auth header: it is not a JSON object")
    auth = _from_entry(data, "the X-Registry-Auth header")
    return None if auth == Auth() else auth


def to_header(auth: Auth) -> str:
    """The `X-Registry-Auth` header of credentials."""
    fields = {
        "username": auth.username,
        "password": auth.password,
        "identitytoken": auth.identity_token,
        "registrytoken": auth.registry_token,
    }
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def config_path() -> Path:
    """The user's Docker configuration."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return Path(folder) / "config.json"


async def from_config(host: str, path: Path | None = None) -> Auth | None:
    """The credentials for a registry in the user's Docker configuration, None if it has none.

    Raises BadRequest (bad configuration), NotSupported (no such helper), Timeout (stuck helper).
    """
    path = path or config_path()
    config = await asyncio.to_thread(read_config, path)
    helpers = config.get("credHelpers", {})
    for key in _keys(host):
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return await _ask_helper(helpers[key], key)
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        for key in _keys(host):
            if (auth := await _ask_helper(store, key)) is not None:
                return auth
    auths = config.get("auths", {})
    for key, entry in auths.items() if isinstance(auths, dict) else ():
        if _host_of(key) in {_host_of(k) for k in _keys(host)} and isinstance(entry, dict):
            auth = _from_entry(entry, str(path))
            if auth != Auth():
                return auth
    return None


def _keys(host: str) -> Iterator[str]:
    yield from _HUB_KEYS if host == DEFAULT_HOST else (host, f"https://{host}")


def _host_of(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def read_config(path: Path) -> dict[str, Any]:
    """A Docker configuration, empty when there is none. Blocks; raises BadRequest."""
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read(_CONFIG_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise BadRequest(f"can't read {path}: permission denied") from None
    except ValueError as error:
        raise BadRequest(f"bad {path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest(f"bad {path}: not a JSON object")
    return data


def _from_entry(entry: dict[str, Any], where: str) -> Auth:
    def text(key: str) -> str:
        value = entry.get(key, "")
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if encoded := text("auth"):
        try:
            pair = base64.b64decode(encoded, validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest(f"bad {where}: an `auth` value is not base64") from None
        username, _, password = pair.partition(":")
    return Auth(username, password, text("identitytoken"), text("registrytoken"))


async def _ask_helper(name: str, key: str) -> Auth | None:
    answer = await run_helper(name, "get", key)
    if answer is None:
        return None
    try:
        data = json.loads(answer)
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest(
            f"docker-credential-{name} failed for {key}: its answer is not as agreed"
        ) from None
    if username == "<token>":
        return Auth(identity_token=secret)
    return Auth(username, secret)


async def run_helper(name: str, verb: str, text: str) -> bytes | None:
    """What a credential helper answers to `get`, `store` or `erase`; None if it knows nothing.

    Raises NotSupported (no such program), BadRequest (it fails), Timeout.
    """
    program = f"docker-credential-{name}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            verb,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise NotSupported(
            f"no program {program}: install the helper that ~/.docker/config.json names"
        ) from None
    try:
        async with asyncio.timeout(HELPER_TIMEOUT):
            out, errors = await process.communicate(text.encode())
    except TimeoutError:
        raise Timeout(f"{program} did not answer within {HELPER_TIMEOUT:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = (out + errors).decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return None
        about = f" for {text}" if verb != "store" else ""
        raise BadRequest(f"{program} failed{about}: {said.splitlines()[0] if said else '?'}")
    return out
