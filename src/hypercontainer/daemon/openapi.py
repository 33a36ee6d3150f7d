"""The OpenAPI 3.0 document of the REST API, made of the declared routes."""

import re
from collections.abc import Iterable
from typing import Any

from .. import __version__
from .routing import JSON, TAR, Body, Later, Param, Route
from .schemas import SCHEMAS

_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
    "number": {"type": "integer"},
    "json": {"type": "string"},
    "texts": {"type": "array", "items": {"type": "string"}},
}
_IN_PATH = re.compile(r"\{(\w+)\}")
_ERROR = {
    "description": "an error",
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_BINARY = {"type": "string", "format": "binary"}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document. Its paths are those without a version."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "hyperd",
            "version": __version__,
            "description": "The REST API of HyperContainer. Each path is also there below"
            " /v1.x, whatever x is.",
        },
        "servers": [{"url": "/"}, {"url": "/v1.0"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "parameters": [
            *(_path_parameter(name) for name in _IN_PATH.findall(route.path)),
            *map(_query_parameter, route.params),
            *(_header(name) for name in route.headers),
        ],
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = _body(route.body)
    if route.takeover:
        operation["x-takeover"] = True
    return operation


def _identifier(route: Route) -> str:
    words = re.findall(r"\w+", route.path)
    return route.method.lower() + "".join(word.capitalize() for word in words)


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}}


def _query_parameter(param: Param) -> dict[str, Any]:
    schema = dict(_TYPES[param.kind])
    if param.kind == "number":
        schema |= {"minimum": param.low, "maximum": param.high}
    if param.choices:
        schema["enum"] = list(param.choices)
    if param.required and param.kind == "text":
        schema["minLength"] = 1
    result: dict[str, Any] = {"name": param.name, "in": "query", "schema": schema}
    if param.about:
        result["description"] = param.about
    if param.required:
        result["required"] = True
    return result


def _body(body: Body) -> dict[str, Any]:
    if body.media == TAR:
        schema: Any = _BINARY
    elif isinstance(body.schema, str):
        schema = {"$ref": f"#/components/schemas/{body.schema}"}
    else:
        schema = dict(body.schema)
    return {
        "description": body.about,
        "required": body.required,
        "content": {body.media: {"schema": schema}},
    }


def _responses(route: Route) -> dict[str, Any]:
    if isinstance(route, Later):
        return {"501": {**_ERROR, "description": "not supported yet"}}
    answer: dict[str, Any] = {"description": route.answer}
    if route.takeover:
        found = {"101": {"description": "the connection is a raw stream"}, "200": answer}
    else:
        if route.status != 204 and route.method != "HEAD":
            answer["content"] = {route.media: {"schema": {} if route.media == JSON else _BINARY}}
        found = {str(route.status): answer}
    return {**found, "default": _ERROR}
