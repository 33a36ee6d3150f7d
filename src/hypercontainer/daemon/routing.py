"""How a route is declared: its path, handler, parameters, body and answer.

A module of routes has a list `ROUTES` of `Route`s. What is declared is checked before the
handler runs, an unknown parameter is refused, and the OpenAPI document (openapi.py) and
docs/rest-api.md are made of it:

    Route("POST", "/container/stop", stop, CONTAINER, number("timeout", 0, 86400, "seconds"),
          answer="`{}` once it has ended")

The handler's docstring says what the route does; it reads parameters by `params`.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from ..errors import BadRequest, NotSupported

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Kind = Literal["text", "flag", "number", "json", "texts"]

JSON = "application/json"
TAR = "application/x-tar"
FRAMES = "application/vnd.docker.multiplexed-stream"
LINES = "application/x-ndjson"

_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter in the query string. `kind` texts may be given several times."""

    name: str
    kind: Kind
    about: str = ""
    required: bool = False
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()

    def check(self, values: list[str]) -> None:
        """Raises BadRequest."""
        if len(values) > 1 and self.kind != "texts":
            raise BadRequest(f"{self.name}: given {len(values)} times")
        for value in values:
            self._check(value)

    def _check(self, value: str) -> None:
        if "\0" in value:
            raise BadRequest(f"{self.name}: has a NUL character")
        if self.kind == "number" and value:
            digits = value.removeprefix("-")
            good = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
            if not good or not self.low <= int(value) <= self.high:
                raise BadRequest(
                    f"{self.name}: {value!r} is not a number from {self.low} to {self.high}"
                )
        if self.choices and value and value not in self.choices:
            raise BadRequest(f"{self.name}: {value!r} is none of {', '.join(self.choices)}")
        if self.kind == "json" and value:
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                raise BadRequest(f"{self.name}: {value!r} is not JSON") from None


def text(
    name: str, about: str = "", *, required: bool = False, choices: tuple[str, ...] = ()
) -> Param:
    """A string."""
    return Param(name, "text", about, required, choices=choices)


def flag(name: str, about: str = "") -> Param:
    """A boolean: false for an empty value, 0, no, false and none."""
    return Param(name, "flag", about)


def number(name: str, low: int, high: int, about: str = "") -> Param:
    """A whole number between two bounds; an empty value is as none."""
    return Param(name, "number", about, low=low, high=high)


def json_value(name: str, about: str = "", *, required: bool = False) -> Param:
    """A value as JSON."""
    return Param(name, "json", about, required)


def texts(name: str, about: str = "") -> Param:
    """A string that may be given several times."""
    return Param(name, "texts", about)


CONTAINER = text("container", required=True)
POD = text("podId", required=True)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body. `schema` is a name in schemas.py or a JSON schema."""

    about: str
    media: str = JSON
    schema: str | Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    required: bool = True


class Route:
    """A declared route. `takeover` says that the connection becomes a raw stream.

    `original` names parameters of the original that are taken and mean nothing here.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        *params: Param,
        body: Body | None = None,
        answer: str = "`{}`",
        status: int = 200,
        media: str = JSON,
        takeover: bool = False,
        original: tuple[str, ...] = (),
        headers: tuple[str, ...] = (),
    ) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.params = params
        self.body = body
        self.answer = answer
        self.status = status
        self.media = media
        self.takeover = takeover
        self.original = original
        self.headers = headers

    @property
    def summary(self) -> str:
        """The first paragraph of the handler's docstring, in one line."""
        return " ".join((self.handler.__doc__ or "").split("\n\n")[0].split())

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Check the parameters, then call the handler. Raises BadRequest."""
        self.check(request.query)
        return await self.handler(request)

    def check(self, query: Any) -> None:
        """Refuse what is missing, wrong or unknown. Raises BadRequest."""
        known = {param.name: param for param in self.params}
        for name in dict.fromkeys(query):
            if name in known:
                known[name].check(query.getall(name))
            elif name not in self.original:
                there = ", ".join(known) or "none"
                raise BadRequest(f"{self.path}: unknown parameter {name!r}: there are {there}")
        for param in self.params:
            if param.required and not query.get(param.name):
                raise BadRequest(f"{self.path}: the parameter {param.name} is missing")


class Later(Route):
    """A route of the original that comes with a later version: it answers 501."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__(method, path, _not_yet)

    def check(self, query: Any) -> None:
        """Nothing is known of its parameters."""


async def _not_yet(request: web.Request) -> web.StreamResponse:
    """Comes with a later version."""
    raise NotSupported(f"{request.method} {request.path}: not supported yet")
