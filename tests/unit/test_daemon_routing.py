"""Routes as they are declared: what is checked, and that the declarations are true."""

import inspect
import re
import sys
from collections import defaultdict
from typing import Any

import pytest
from multidict import MultiDict

from hypercontainer.daemon.openapi import document
from hypercontainer.daemon.route_table import routes
from hypercontainer.daemon.routing import Later, Route, flag, json_value, number, text, texts
from hypercontainer.errors import BadRequest

_READ = re.compile(
    r"""(?:params\.\w+\(\s*request,\s*|request\.query(?:\.get|\.getall)?[(\[]\s*)"([\w-]+)"|"""
    r""""([\w-]+)" in request\.query"""
)


async def _handler(request: Any) -> Any:
    """Do nothing."""


def _check(*query: tuple[str, str]) -> None:
    route = Route(
        "GET",
        "/x",
        _handler,
        text("name", required=True),
        text("word", choices=("a", "b")),
        number("n", 0, 10),
        flag("yes"),
        json_value("filters"),
        texts("many"),
        original=("old",),
    )
    route.check(MultiDict(query))


def test_what_is_declared_passes() -> None:
    _check(("name", "x"), ("word", "a"), ("n", "10"), ("yes", "maybe"), ("filters", "{}"))
    _check(("name", "x"), ("n", ""), ("many", "1"), ("many", "2"), ("old", "whatever"))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([], "/x: the parameter name is missing"),
        ([("name", "")], "/x: the parameter name is missing"),
        ([("name", "x"), ("naem", "y")], "/x: unknown parameter 'naem': there are name, word, n"),
        ([("name", "x"), ("name", "y")], "name: given 2 times"),
        ([("name", "x\0")], "name: has a NUL character"),
        ([("name", "x"), ("word", "c")], "word: 'c' is none of a, b"),
        ([("name", "x"), ("n", "11")], "n: '11' is not a number from 0 to 10"),
        ([("name", "x"), ("n", "1_0")], "n: '1_0' is not a number"),
        ([("name", "x"), ("n", "9" * 5000)], "is not a number"),
        ([("name", "x"), ("filters", "{")], "filters: '{' is not JSON"),
        ([("name", "x"), ("filters", "[" * 100000)], "is not JSON"),
    ],
)
def test_what_is_not_declared_is_refused(query: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        _check(*query)
    assert says in caught.value.message


def test_every_parameter_that_a_module_reads_is_declared_there_and_the_reverse() -> None:
    declared: dict[str, set[str]] = defaultdict(set)
    for route in routes():
        if not isinstance(route, Later):
            declared[route.handler.__module__] |= {p.name for p in route.params}
    shared = ("attaching", "logs", "logfiles", "routes_events", "tarstream")
    helpers = [sys.modules.get(f"hypercontainer.daemon.{name}") for name in shared]
    common = set().union(*(_read(module) for module in helpers if module))
    for name, params in declared.items():
        module = sys.modules[name]
        assert _read(module) <= params, name
        code = inspect.getsource(module).partition("\nROUTES = [")[0]
        unread = {param for param in params if f'"{param}"' not in code}
        assert unread <= common, name


def _read(module: Any) -> set[str]:
    found = _READ.findall(inspect.getsource(module))
    return {first or second for first, second in found}


def test_no_route_is_there_twice_and_each_says_what_it_does() -> None:
    keys = [(route.method, route.path) for route in routes()]
    assert len(keys) == len(set(keys))
    assert all(route.summary and route.answer for route in routes())


def test_the_document_has_all_routes() -> None:
    made = document(routes())
    operations = {
        (method.upper(), path) for path, methods in made["paths"].items() for method in methods
    }
    assert operations == {(route.method, route.path) for route in routes()}
    identifiers = [o["operationId"] for path in made["paths"].values() for o in path.values()]
    assert len(identifiers) == len(set(identifiers))
