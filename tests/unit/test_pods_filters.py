"""Filters of the list of containers."""

from typing import Any

import pytest

from hypercontainer.errors import BadRequest, NotFound
from hypercontainer.pods.filters import ContainerFilter
from hypercontainer.pods.model import Container, Pod, Status
from hypercontainer.pods.registry import Registry
from hypercontainer.pods.spec import parse_pod

LAYERS = {"base": ["l1"], "app": ["l1", "l2"], "other": ["l3"]}


def _layers(image: str) -> list[str]:
    if image not in LAYERS:
        raise NotFound(image)
    return LAYERS[image]


def _registry() -> Registry:
    registry = Registry()
    for number, (name, image, labels) in enumerate(
        [("web-1", "app", {"tier": "front"}), ("web-2", "base", {}), ("db", "other", {"x": "1"})]
    ):
        own: dict[str, Any] = {"name": name, "image": image, "labels": labels}
        if name == "db":
            own["volumes"] = [{"path": "/data", "volume": "store"}]
        raw: dict[str, Any] = {"id": f"pod-{name}", "containers": [own], "network": "none"}
        raw["volumes"] = [{"name": "store"}] if name == "db" else []
        pod = Pod(f"pod-{name}", parse_pod(raw), raw, "2026-01-01T00:00:00Z")
        pod.containers = [
            Container(
                id=f"{number}" * 64,
                pod_id=pod.id,
                name=name,
                spec=pod.spec.containers[0],
                image=image,
                image_id=image,
                image_config={"Labels": {"from": "image"}},
                created_at=f"2026-01-0{number + 1}T00:00:00Z",
                raw={},
            )
        ]
        registry.add(pod)
    web, other, db = registry.containers
    web.state.status, web.state.health = Status.RUNNING, "healthy"
    other.state.status, other.state.exit_code = Status.EXITED, 3
    db.state.status = Status.RUNNING
    return registry


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "web-1 web-2 db"),
        ({"name": ["web"]}, "web-1 web-2"),
        ({"name": ["^db$"]}, "db"),
        ({"name": ["^/web-1$"]}, "web-1"),
        ({"name": ["1", "db"]}, "web-1 db"),
        ({"status": ["exited"]}, "web-2"),
        ({"status": ["exited", "running"], "name": ["web"]}, "web-1 web-2"),
        ({"label": ["tier"]}, "web-1"),
        ({"label": ["tier=back"]}, ""),
        ({"label": ["from=image", "x"]}, "db"),
        ({"ancestor": ["base"]}, "web-1 web-2"),
        ({"ancestor": ["app"]}, "web-1"),
        ({"ancestor": ["none"]}, ""),
        ({"exited": ["3"]}, "web-2"),
        ({"exited": ["0"]}, ""),
        ({"health": ["healthy"]}, "web-1"),
        ({"health": ["none"]}, "web-2 db"),
        ({"pod": ["pod-db"]}, "db"),
        ({"volume": ["store"]}, "db"),
        ({"volume": ["/data"]}, "db"),
        ({"network": ["none"]}, "web-1 web-2 db"),
        ({"network": ["front"]}, ""),
        ({"id": ["11"]}, "web-2"),
        ({"before": ["web-2"]}, "web-1"),
        ({"since": ["web-2"]}, "db"),
    ],
)
def test_filters(wanted: dict[str, list[str]], found: str) -> None:
    registry = _registry()
    chosen = ContainerFilter(registry, wanted, _layers)
    names = [c.name for c in registry.containers if chosen.matches(registry.pod_of(c), c)]
    assert " ".join(names) == found


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"nmae": ["x"]}, "'nmae' is none of ancestor, before"),
        ({"status": ["up"]}, "status: 'up' is none of created"),
        ({"health": ["good"]}, "health: 'good' is none of"),
        ({"exited": ["-1"]}, "exited: '-1' is not an exit code"),
        ({"exited": ["256"]}, "not an exit code"),
        ({"name": ["(a+)+$"]}, "not a simple pattern"),
        ({"name": ["a*b*c*d*"]}, "not a simple pattern"),
        ({"name": ["[a"]}, "name: '.a': unterminated"),
    ],
)
def test_filters_that_make_no_sense(wanted: dict[str, list[str]], error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        ContainerFilter(_registry(), wanted, _layers)


def test_a_container_to_compare_with_has_to_be_there() -> None:
    with pytest.raises(NotFound):
        ContainerFilter(_registry(), {"before": ["none"]}, _layers)
