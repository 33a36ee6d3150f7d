"""Checking credentials at a registry."""

from urllib.parse import urlsplit

from ..errors import BadRequest
from .auth import Auth
from .failures import AccessDenied
from .hosts import Hosts
from .reference import DEFAULT_HOST, Reference, parse
from .registry import Registry

_HUB = ("index.docker.io", "registry-1.docker.io", "docker.io", "")


def host_of(address: str) -> str:
    """The host of a registry's address, given as HOST[:PORT] or as a URL. Raises BadRequest."""
    host = urlsplit(address).netloc if "://" in address else address.partition("/")[0]
    if host in _HUB:
        return DEFAULT_HOST
    if "@" in host or parse(f"{host}/x").host != host:
        raise BadRequest(f"bad registry {address!r}: HOST or HOST:PORT is expected")
    return host


async def check(hosts: Hosts, host: str, auth: Auth) -> None:
    """Log in at a registry. Raises AccessDenied, RegistryError, Timeout."""
    endpoint = hosts.endpoints(host)[-1]
    reference = Reference(host, "", None, None)
    async with Registry(endpoint, hosts, reference, auth, actions="") as registry:
        try:
            await registry.log_in()
        except AccessDenied as error:
            who = f" for user {auth.username}" if auth.username else ""
            raise AccessDenied(
                f"login to {host} denied{who}: the registry refuses these credentials",
                detail=error.message,
            ) from error
