"""Every route, called with what its own OpenAPI document allows and with what it does not.

No answer may be a 500 or a cut connection, every error has the documented form, and hyperd is
well afterwards. HYPER_FUZZ is the number of calls for each route and kind (`make fuzz-api`).
"""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from hypercontainer.daemon.openapi import document
from hypercontainer.daemon.route_table import routes
from tests.e2e.netns import NetHyperd, alone

EXAMPLES = int(os.environ.get("HYPER_FUZZ", "3"))
BOUND = 60.0
BRIEF = 1.0
# They may wait for what never comes: no answer within a while is right.
WAITING = ("/events", "/exitcode", "/attach", "/container/stats", "/container/logs")
# Names that mean something to the hyperd of the test, mixed among those that do not.
NAMES = ("runs", "rests", "busybox", "hyper0", "bridge")


@schemathesis.serializer("application/x-tar")
def _tar(ctx: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()


_SCHEMA = schemathesis.openapi.from_dict(document(routes()))
OPERATIONS: list[Any] = [result.ok() for result in _SCHEMA.get_all_operations()]  # type: ignore[union-attr]

pytestmark = pytest.mark.timeout(max(120, EXAMPLES * 20))


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def hyperd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetHyperd]:
    """A hyperd in a namespace of its own, with a container that runs and one that does not."""
    with alone(NetHyperd, tmp_path_factory.mktemp("fuzz")) as daemon:
        _restore(daemon)
        yield daemon


def _restore(hyperd: NetHyperd) -> None:
    """What the calls may have removed."""
    if not hyperd.client.list_images():
        hyperd.load_image()
    names = {c["Names"][0]: c["State"] for c in hyperd.client.list_containers(all=True)}
    if "/rests" not in names:
        hyperd.create("true", name="rests")
    if "/runs" not in names:
        hyperd.create("sleep", "100000", name="runs")
    if names.get("/runs") == "paused":
        hyperd.client.unpause_container("runs")
    if names.get("/runs") != "running":
        hyperd.client.start_container("runs")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method.upper()} {o.path}")
def test_no_call_breaks_hyperd(hyperd: NetHyperd, operation: Any) -> None:
    _restore(hyperd)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        try:
            cases = operation.as_strategy(generation_mode=mode)
            _call_all(hyperd, cases)
        except (Unsatisfiable, schemathesis.errors.SchemathesisError) as error:
            # Some routes take nothing that could be wrong.
            assert mode == GenerationMode.NEGATIVE, error
    hyperd.client.ping()


def _call_all(hyperd: NetHyperd, cases: Any) -> None:
    @given(case=cases, name=st.none() | st.sampled_from(NAMES))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def call(case: Any, name: str | None) -> None:
        _call(hyperd, case, name)

    call()


def _call(hyperd: NetHyperd, case: Any, name: str | None) -> None:
    """One call; with a name, that of something which is there."""
    arguments = case.as_transport_kwargs(base_url="http://localhost")
    arguments.pop("cookies", None)
    query = arguments.get("params")
    if name and isinstance(query, dict):
        for key in ("container", "podId", "podName", "imageName", "imageId", "network", "pod"):
            if isinstance(query.get(key), str):
                query[key] = name
    if isinstance(query, dict) and isinstance(query.get("timeout"), int):
        query["timeout"] = min(query["timeout"], 1)
    try:
        prepared = requests.Request(**arguments).prepare()
    except (requests.RequestException, UnicodeError, ValueError):
        return  # such a request can't be put on the wire
    assert prepared.method is not None
    body = _bytes(prepared.body)
    if _touches_the_host(body):
        return
    waits = case.path.startswith(WAITING)
    connection = _Connection(hyperd.socket, BRIEF if waits else BOUND)
    try:
        connection.request(prepared.method, prepared.path_url, body or None, dict(prepared.headers))
        answer = connection.getresponse()
        _judge(case, answer)
    except TimeoutError:
        assert waits, f"no answer within {BOUND:g} s: {prepared.method} {prepared.url} {body!r}"
    except ValueError as error:
        assert "header" in str(error) or "control characters" in str(error), error
    finally:
        connection.close()


def _bytes(body: Any) -> bytes:
    if hasattr(body, "read"):
        return bytes(body.read())
    return body.encode() if isinstance(body, str) else bytes(body or b"")


def _touches_the_host(body: bytes) -> bool:
    """A volume of a path of the host, or a file of it: not in a test that makes paths up."""
    return any(word in body for word in (b'"source"', b'"uri"', b'"path"'))


def _judge(case: Any, answer: http.client.HTTPResponse) -> None:
    what = f"{case.method} {case.formatted_path} {case.query} {case.body!r}: {answer.status}"
    assert answer.status != 500, f"{what}: {answer.read(2000)!r}"
    if answer.status < 400 or case.method == "HEAD":
        return
    data = answer.read(1 << 20)
    error = json.loads(data)
    assert isinstance(error["code"], str) and isinstance(error["message"], str), what
    assert "\n" not in error["message"], what
    assert "internal error" not in error["message"], f"{what}: {error}"
