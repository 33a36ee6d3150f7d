"""Health checks and the order of starts in a container's specification."""

from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest
from .reading import Node

NANOSECOND = 1e-9
_DAY = 86400.0
_CONDITIONS = ("started", "healthy", "completed")


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """How a container is examined. Times are in seconds.

    `test` is the command; an empty one means no examination, not even the image's.
    """

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    retries: int = 3

    @property
    def longest(self) -> float:
        """Seconds within which a verdict has to come."""
        return self.start_period + (self.retries + 1) * (self.interval + self.timeout)


@dataclass(frozen=True, slots=True)
class Dependency:
    """A container of the pod that has to be started, healthy or completed (by 0) before."""

    name: str
    condition: str


def read_health(node: Node) -> HealthSpec | None:
    """The key `health` of a container; None when it is absent."""
    health = node.child("health")
    if health is None:
        return None
    value = health.take("test")
    if isinstance(value, str):
        test: tuple[str, ...] = ("CMD-SHELL", value) if value else ()
    else:
        test = health.texts("test")
    spec = HealthSpec(
        _command(test, health.where("test")),
        health.number("interval", 30.0, 0.01, _DAY),
        health.number("timeout", 30.0, 0.01, _DAY),
        health.number("startPeriod", 0.0, 0.0, _DAY),
        health.integer("retries", 3, 1, 1000),
    )
    health.done()
    return spec


def _command(test: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not test or test[0] == "NONE":
        return ()
    kind, *rest = test
    if kind == "CMD-SHELL":
        if len(rest) != 1:
            raise BadRequest(f"{where}: CMD-SHELL takes one string")
        return ("/bin/sh", "-c", rest[0])
    if kind == "CMD":
        if not rest:
            raise BadRequest(f"{where}: CMD without a command")
        return tuple(rest)
    return test


def image_health(image: dict[str, Any]) -> HealthSpec | None:
    """The HEALTHCHECK of an image's config; None for none, or one that makes no sense."""
    value = image.get("Healthcheck")
    if not isinstance(value, dict):
        return None
    test = value.get("Test")
    if not isinstance(test, list) or not all(isinstance(item, str) for item in test):
        return None
    try:
        command = _command(tuple(test), "Healthcheck.Test")
    except BadRequest:
        return None
    retries = value.get("Retries")
    return HealthSpec(
        command,
        _seconds(value.get("Interval"), 30.0),
        _seconds(value.get("Timeout"), 30.0),
        _seconds(value.get("StartPeriod"), 0.0),
        retries if isinstance(retries, int) and 0 < retries <= 1000 else 3,
    )


def _seconds(value: object, default: float) -> float:
    if isinstance(value, int) and value > 0:
        return min(max(value * NANOSECOND, 0.01), _DAY)
    return default


def read_depends(node: Node) -> tuple[Dependency, ...]:
    """The key `depends` of a container: names, or objects of name and condition."""
    result: dict[str, Dependency] = {}
    for path, item in node.items("depends"):
        if isinstance(item, str):
            one = Dependency(item, "started")
        else:
            inner = Node(item, path)
            condition = inner.choice("condition", _CONDITIONS, "started")
            one = Dependency(inner.text("name"), condition)
            inner.done()
        if one.name in result:
            raise BadRequest(f"{path}: {one.name!r} is there twice")
        result[one.name] = one
    return tuple(result.values())
