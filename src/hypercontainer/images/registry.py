"""Client of a container registry: manifests and blobs over HTTP, with its two ways to log in.

API: the distribution project's "HTTP API V2" and "Token Authentication" specifications.
"""

import asyncio
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from ..errors import HyperError, NotFound
from .auth import Auth
from .failures import AccessDenied, RegistryError
from .hosts import Endpoint, Hosts, proxy_for
from .manifest import ACCEPTED, MANIFEST_LIMIT
from .reference import Reference

CONNECT_TIMEOUT = 15.0
READ_TIMEOUT = 60.0
ATTEMPTS = 5
_ANSWER_LIMIT = 1 << 20
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')
Body = bytes | AsyncIterator[bytes]
_NETWORK = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Temporary(RegistryError):
    """Worth another try: the connection broke, or the registry is overloaded."""


class Silent(Temporary):
    """No answer within the time limit."""


class Unreachable(RegistryError):
    """No connection: another scheme would not help."""


class NoTLS(RegistryError):
    """The other side does not speak TLS."""


async def pause_before(attempt: int) -> None:
    """Back off before a further attempt: 0.3 s, doubled each time, at most 5 s."""
    await asyncio.sleep(min(0.3 * 2 ** (attempt - 1), 5.0))


class Registry:
    """One repository at one endpoint, logged in as needed; an async context manager."""

    def __init__(
        self,
        endpoint: Endpoint,
        hosts: Hosts,
        reference: Reference,
        auth: Auth | None,
        actions: str = "pull",
    ) -> None:
        """`actions` are those that a token is asked for if the registry does not say which."""
        self.endpoint = endpoint
        self._hosts = hosts
        self._reference = reference
        self._actions = actions
        self._auth = auth or Auth()
        self._authorization = (
            f"Bearer {self._auth.registry_token}" if self._auth.registry_token else ""
        )
        self._expires = float("inf")
        self._scheme = ""
        self._login = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """The registry, as errors name it."""
        return self.endpoint.address if self.endpoint.is_mirror else self.endpoint.name

    async def __aenter__(self) -> "Registry":
        context = await asyncio.to_thread(self._hosts.tls, self.endpoint)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=8),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT
            ),
            headers={"User-Agent": "hypercontainer"},
            auto_decompress=False,
        )
        try:
            await self._find_scheme()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _find_scheme(self) -> None:
        """Ask for `/v2/`: finds whether it talks TLS, and how it wants us to log in."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._try_schemes()
                return
            except Temporary as error:
                if attempt == ATTEMPTS or isinstance(error, Silent):
                    raise
            await pause_before(attempt)

    async def _try_schemes(self) -> None:
        reason: HyperError | None = None
        for scheme in self.endpoint.schemes:
            try:
                async with self._send("GET", f"{self._base(scheme)}/v2/", {}) as response:
                    await _read(response, _ANSWER_LIMIT, f"what {self.name} says")
                    if response.status == 429 or response.status >= 500:
                        raise Temporary(f"registry {self.name} fails: {_status(response)}")
                    if response.status not in (200, 401, 403):
                        raise RegistryError(
                            f"{self.name} is no image registry: it answers {_status(response)}"
                            " to /v2/: check the image's name"
                        )
                    self._scheme = scheme
                    return
            except HyperError as error:
                if isinstance(error, Unreachable | Silent):
                    raise
                if reason is None or isinstance(reason, NoTLS):
                    reason = error
        assert reason is not None
        raise reason

    def _base(self, scheme: str) -> str:
        prefix = f"/{self.endpoint.prefix}" if self.endpoint.prefix else ""
        return f"{scheme}://{self.endpoint.address}{prefix}"

    async def manifest(self, target: str) -> bytes:
        """A manifest by tag or digest, not yet verified; NotFound, AccessDenied, RegistryError."""
        what = f"{self._reference.familiar_name}{'@' if ':' in target else ':'}{target}"
        url = f"/manifests/{target}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.get(url, {"Accept": ", ".join(ACCEPTED)}, what) as response:
                    data = await _read(response, MANIFEST_LIMIT, f"the manifest of {what}")
                    if not data:
                        raise Temporary(f"registry {self.name} sent an empty manifest of {what}")
                    return data
            except Temporary:
                if attempt == ATTEMPTS:
                    raise
            await pause_before(attempt)
        raise AssertionError

    def get(
        self, path: str, headers: Mapping[str, str], what: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A GET below the repository; as `request` else."""
        return self.request("GET", self.url(path), headers, what)

    async def log_in(self) -> None:
        """Use the credentials once. Raises AccessDenied, RegistryError."""
        what = f"what {self.name} says"
        async with self.request("GET", f"{self._base(self._scheme)}/v2/", {}, what) as response:
            await _read(response, _ANSWER_LIMIT, what)

    def url(self, path: str) -> str:
        """The URL of a path below the repository."""
        return f"{self._base(self._scheme)}/v2/{self._reference.path}{path}"

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        what: str,
        body: Callable[[], Body] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request that is logged in if the registry asks for that; the status is below 400.

        `body` makes the body anew for each try. Raises NotFound, AccessDenied, RegistryError,
        and Temporary for what may go better next time, also while the answer is read.
        """
        for last in (False, True):
            if self._authorization and time.monotonic() > self._expires:
                self._authorization = ""
            sent = self._authorization
            data = body() if body else None
            async with self._send(method, url, headers, sent, data) as response:
                if response.status == 401 and not last:
                    challenges = response.headers.getall("WWW-Authenticate", [])
                else:
                    await self._check(response, what)
                    yield response
                    return
            await self._log_in(challenges, sent)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str = "",
        body: Body | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None or self._session.closed:
            raise RegistryError(f"the connection to registry {self.name} was closed")
        sent = dict(headers)
        if authorization:
            sent["Authorization"] = authorization
        try:
            async with self._session.request(
                method, url, headers=sent, data=body, proxy=proxy_for(url), max_redirects=5
            ) as response:
                yield response
        except _NETWORK as error:
            raise _network_error(error, self.name, urlsplit(url).netloc) from error

    async def _check(self, response: aiohttp.ClientResponse, what: str) -> None:
        status = response.status
        if status < 400 or status == 416:
            return
        said = _said(await _read(response, _ANSWER_LIMIT, f"what {self.name} says"))
        if status in (401, 403):
            raise self._denied(said)
        if status == 404:
            raise NotFound(
                f"no such image: {what}: registry {self.name} does not have it:"
                " check its name and tag"
            )
        text = f"registry {self.name} fails for {what}: {_status(response)}"
        text += f": {said}" if said else ""
        raise Temporary(text) if status >= 500 or status in (408, 429) else RegistryError(text)

    def _denied(self, said: str) -> AccessDenied:
        name = self._reference.familiar_name
        if self._auth != Auth():
            who = f" for user {self._auth.username}" if self._auth.username else ""
            return AccessDenied(
                f"access to {name} denied{who}: registry {self.name} refuses these credentials"
                f"{': ' + said if said else ''}: check them in ~/.docker/config.json"
            )
        return AccessDenied(
            f"access to {name} denied: registry {self.name} wants a user, or does not have it:"
            f" put credentials for {self.endpoint.name} into ~/.docker/config.json"
        )

    async def _log_in(self, challenges: list[str], refused: str) -> None:
        """Do what a 401's WWW-Authenticate asks for; `refused` is what was sent before."""
        async with self._login:
            if self._authorization != refused:
                return  # another request has just logged in
            by_kind = {text.partition(" ")[0].lower(): text for text in challenges}
            if "bearer" in by_kind:
                values = _CHALLENGE.findall(by_kind["bearer"])
                await self._fetch_token({key.lower(): value for key, value in values})
            elif "basic" in by_kind and self._auth.basic and refused != self._auth.basic:
                self._authorization = self._auth.basic
            else:
                raise self._denied("")

    async def _fetch_token(self, challenge: dict[str, str]) -> None:
        realm = challenge.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and self._hosts.is_insecure(parts.netloc)
        ):
            raise AccessDenied(
                f"registry {self.name} sends us to {realm!r} for a token: not an https address"
            )
        query = {"client_id": "hypercontainer"}
        scope = challenge.get("scope")
        if scope is None and self._actions:
            scope = f"repository:{self._reference.path}:{self._actions}"
        if scope:
            query["scope"] = scope
        if service := challenge.get("service"):
            query["service"] = service
        assert self._session is not None
        proxy = proxy_for(realm)
        try:
            if self._auth.identity_token:
                form = {
                    **query,
                    "grant_type": "refresh_token",
                    "refresh_token": self._auth.identity_token,
                }
                request = self._session.post(realm, data=form, proxy=proxy)
            else:
                headers = {"Authorization": self._auth.basic} if self._auth.basic else {}
                request = self._session.get(realm, params=query, headers=headers, proxy=proxy)
            async with request as response:
                data = await _read(response, _ANSWER_LIMIT, f"the token of {parts.netloc}")
                if response.status in (400, 401, 403):
                    raise self._denied(_said(data))
                if response.status >= 400:
                    raise Temporary(f"{parts.netloc} gives no token: {_status(response)}")
        except _NETWORK as error:
            raise _network_error(error, parts.netloc, parts.netloc) from error
        try:
            answer = json.loads(data)
            token = answer.get("token") or answer["access_token"]
            lifetime = float(answer.get("expires_in") or 60)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryError(f"{parts.netloc} gives no token: its answer is no JSON") from None
        self._authorization = f"Bearer {token}"
        self._expires = time.monotonic() + max(lifetime, 60) * 0.9


def _network_error(error: BaseException, name: str, address: str) -> HyperError:
    """One line for what aiohttp says; Temporary if another try may help."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "not trusted"
        return Unreachable(
            f"can't trust registry {name}: its certificate: {reason}: put its authority into"
            f" /etc/docker/certs.d/{address}/ca.crt, or list it as an insecure registry"
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return NoTLS(
            f"cannot reach registry {name}: it does not speak TLS:"
            " if it should be used without, list it as an insecure registry"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(
            f"cannot reach registry {name}: no such host: check the name, and the network"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.os_error.strerror or str(error.os_error)
        return Unreachable(
            f"cannot reach registry {name}: {_plain(why, error.os_error)}:"
            " check that it runs, and the image's name"
        )
    if isinstance(error, TimeoutError):
        return Silent(f"cannot reach registry {name}: no answer within the time limit")
    return Temporary(f"lost the connection to registry {name}: {str(error) or 'it broke'}")


def _plain(text: str, error: OSError) -> str:
    """`Connect call failed ('127.0.0.1', 1)` hides the reason: use the errno's text."""
    return (os.strerror(error.errno) if error.errno else text).lower()


def _status(response: aiohttp.ClientResponse) -> str:
    return f"{response.status} {response.reason or ''}".strip()


def _said(data: bytes) -> str:
    """The first message of a registry's JSON error."""
    try:
        message = json.loads(data)["errors"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return str(message)[:200].replace("\n", " ")


async def _read(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        data += chunk
        if len(data) > limit:
            raise RegistryError(f"{what} is refused: larger than {limit} bytes")
    return bytes(data)
