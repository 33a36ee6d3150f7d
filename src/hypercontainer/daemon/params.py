"""Reading the query strings and bodies of requests."""

import json
from typing import Any

from aiohttp import web

from ..errors import BadRequest

MAX_BODY = 4 << 20
_FALSE = ("", "0", "no", "false", "none")


def text(request: web.Request, name: str, default: str | None = None) -> str:
    """A parameter. Raises BadRequest when it is missing and there is no default."""
    value = request.query.get(name, default)
    if value is None or (not value and default is None):
        raise BadRequest(f"{request.path}: the parameter {name} is missing")
    return value


def boolean(request: web.Request, name: str, default: bool = False) -> bool:
    """False for "", 0, no, false and none, as in the original; true for anything else."""
    value = request.query.get(name)
    return default if value is None else value.lower() not in _FALSE


def integer(request: web.Request, name: str, low: int, high: int) -> int | None:
    """A number between two bounds, None when it is absent. Raises BadRequest."""
    value = request.query.get(name, "")
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise BadRequest(f"{name}: {value!r} is not a number from {low} to {high}")
    return number


def texts(request: web.Request, name: str) -> dict[str, str]:
    """A JSON object of strings, empty when it is absent. Raises BadRequest."""
    text = request.query.get(name, "")
    try:
        value = json.loads(text or "{}") or {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadRequest(f"{name}: {text[:200]!r} is not a JSON object of strings")
    return value


async def body(request: web.Request) -> Any:
    """A JSON body, at most 4 MiB. Raises BadRequest."""
    data = await request.read()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


async def body_object(request: web.Request) -> dict[str, Any]:
    """A JSON object as the body. Raises BadRequest."""
    value = await body(request)
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    return value
