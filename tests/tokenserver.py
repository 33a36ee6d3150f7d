"""A front of a registry that wants bearer tokens and gives them, as the large registries do."""

import asyncio
import json
import secrets
from types import TracebackType

import aiohttp
from aiohttp import web

from hypercontainer.images.auth import Auth


class TokenFront:
    """An async context manager; `scopes` are those that tokens were given for."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.scopes: list[str] = []
        self.host = ""
        self._target = f"http://127.0.0.1:{port}"
        self._basic = Auth(user, password).basic
        self._granted: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "TokenFront":
        application = web.Application(client_max_size=64 << 20)
        application.router.add_get("/token", self._give)
        application.router.add_route("*", "/v2/{rest:.*}", self._pass)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        address, port = self._runner.addresses[0][:2]
        self.host = f"{address}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None and self._runner is not None
        await self._session.close()
        await self._runner.cleanup()

    async def _give(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._basic:
            return web.json_response({"errors": [{"message": "bad user"}]}, status=401)
        scope = request.query.get("scope", "")
        self.scopes.append(scope)
        token = secrets.token_hex(16)
        self._granted[token] = scope
        answer = web.StreamResponse()
        await answer.prepare(request)
        data = json.dumps({"token": token, "expires_in": 300}).encode()
        await answer.write(data[:20])
        await asyncio.sleep(0.05)  # in two pieces, as the network may do
        await answer.write(data[20:])
        return answer

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        writes = request.method in ("POST", "PUT", "PATCH")
        actions = "pull,push" if writes else "pull"
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        granted = self._granted.get(token)
        if granted is None or (writes and "push" not in granted):
            path = request.path.removeprefix("/v2/").partition("/manifests/")[0]
            path = path.partition("/blobs/")[0]
            challenge = f'Bearer realm="http://{self.host}/token",service="tests"'
            if path:
                challenge += f',scope="repository:{path}:{actions}"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        assert self._session is not None
        passed = ("Accept", "Range", "Content-Type", "Host")
        headers = {k: v for k, v in request.headers.items() if k in passed}
        async with self._session.request(
            request.method,
            self._target + request.path_qs,
            headers=headers,
            data=await request.read() if writes else None,
        ) as got:
            body = await got.read()
            kept = ("Content-Type", "Location")
            headers = {k: v for k, v in got.headers.items() if k in kept}
            return web.Response(status=got.status, body=body, headers=headers)
