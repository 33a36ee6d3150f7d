"""/metrics, read as Prometheus reads it."""

import http.client
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hypercontainer.errors import NotFound
from tests.e2e.hyperd_process import Hyperd


def _figures(hyperd: Hyperd) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(hyperd.socket))
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.read().decode()
    connection.close()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _of(
    figures: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float:
    return figures.get((name, frozenset(labels.items())), 0.0)


def test_figures_follow_what_happens(hyperd: Hyperd) -> None:
    before = _figures(hyperd)
    container = hyperd.run("sleep", "1000")
    with pytest.raises(NotFound):
        hyperd.client.inspect_container("nonesuch")
    now = _figures(hyperd)
    assert _of(now, "hyperd_containers", state="running") == 1
    assert _of(now, "hyperd_vms") == 1
    assert _of(now, "hyperd_vm_memory_bytes") == 128 << 20
    assert _of(now, "hyperd_images") == 1
    assert _of(now, "hyperd_layers_bytes") > 100_000
    assert _of(now, "hyperd_start_seconds_count") == _of(before, "hyperd_start_seconds_count") + 1
    labels = {"method": "GET", "route": "/container/json", "status": "404"}
    assert _of(now, "hyperd_requests_total", **labels) == 1
    hyperd.client.remove_container(container, force=True)
    after = _figures(hyperd)
    assert _of(after, "hyperd_containers", state="running") == 0
    assert _of(after, "hyperd_vms") == 0
