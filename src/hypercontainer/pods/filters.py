"""Which containers are wanted of a list: Docker's filters."""

import re
from collections.abc import Callable, Mapping

from ..errors import BadRequest, NotFound
from .model import Container, Pod, Status
from .mounts import all_mounts
from .registry import Registry
from .views import labels

STATUSES = tuple(status.value for status in Status)
HEALTHS = ("starting", "healthy", "unhealthy", "none")
_NAME = re.compile(r"[\w.*+?^$|\[\]/-]*", re.ASCII)
_MOST_REPEATS = 3
_MAX_CODE = 255

Matcher = Callable[[Pod, Container, str], bool]


class ContainerFilter:
    """For each key one of its values has to match (labels: all of them)."""

    def __init__(
        self,
        registry: Registry,
        wanted: Mapping[str, list[str]],
        layers: Callable[[str], list[str]],
    ) -> None:
        """`wanted` is as Docker's `filters`; `layers` names those of an image.

        Raises BadRequest (an unknown key, a value that makes no sense), NotFound (a container
        for `before` or `since`); `layers` raises NotFound for an image that is not there.
        """
        self._layers = layers
        self._registry = registry
        self._wanted = {key: values for key, values in wanted.items() if values}
        matchers: dict[str, Matcher] = {
            "ancestor": self._descends,
            "before": self._before,
            "exited": _exited,
            "health": _health,
            "id": lambda pod, container, value: container.id.startswith(value),
            "label": _labelled,
            "name": lambda pod, container, value: bool(
                re.search(value, f"/{container.name}") or re.search(value, container.name)
            ),
            "network": _in_network,
            "pod": lambda pod, container, value: pod.id == value,
            "since": self._since,
            "status": lambda pod, container, value: container.state.status == value,
            "volume": _has_volume,
        }
        self._matchers = matchers
        for key, values in self._wanted.items():
            if key not in matchers:
                raise BadRequest(f"filters: {key!r} is none of {', '.join(matchers)}")
            for value in values:
                self._check(key, value)

    @property
    def names_states(self) -> bool:
        """Whether states are asked for, so that containers that don't run are meant too."""
        return "status" in self._wanted

    def matches(self, pod: Pod, container: Container) -> bool:
        """Whether a container is wanted."""
        return all(
            (all if key == "label" else any)(
                self._matchers[key](pod, container, value) for value in values
            )
            for key, values in self._wanted.items()
        )

    def _check(self, key: str, value: str) -> None:
        if key == "status" and value not in STATUSES:
            raise BadRequest(f"filters: status: {value!r} is none of {', '.join(STATUSES)}")
        if key == "health" and value not in HEALTHS:
            raise BadRequest(f"filters: health: {value!r} is none of {', '.join(HEALTHS)}")
        number = value.isascii() and value.isdigit() and int(value[:9]) <= _MAX_CODE
        if key == "exited" and not number:
            raise BadRequest(f"filters: exited: {value!r} is not an exit code")
        if key == "name":
            _check_pattern(value)
        if key in ("before", "since"):
            self._registry.container(value)

    def _descends(self, pod: Pod, container: Container, value: str) -> bool:
        """Whether a container's image is one, or was made upon it."""
        if value in (container.image, container.image_id):
            return True
        try:
            above, own = self._layers(value), self._layers(container.image_id)
        except (NotFound, BadRequest):
            return False
        return own[: len(above)] == above

    def _before(self, pod: Pod, container: Container, value: str) -> bool:
        return container.created_at < self._registry.container(value).created_at

    def _since(self, pod: Pod, container: Container, value: str) -> bool:
        return container.created_at > self._registry.container(value).created_at


def _check_pattern(value: str) -> None:
    """Only patterns that are searched for quickly: without groups, and with few repeats."""
    repeats = sum(value.count(sign) for sign in "*+?")
    if not _NAME.fullmatch(value) or repeats > _MOST_REPEATS:
        raise BadRequest(
            f"filters: name: {value!r} is not a simple pattern: characters of names,"
            " ^ $ . [] |, and three of * + ? at most"
        )
    try:
        re.compile(value)
    except re.error as error:
        raise BadRequest(f"filters: name: {value!r}: {error}") from None


def _exited(pod: Pod, container: Container, value: str) -> bool:
    state = container.state
    return state.status == Status.EXITED and state.exit_code == int(value)


def _health(pod: Pod, container: Container, value: str) -> bool:
    return (container.state.health if container.live else "") == value.replace("none", "")


def _labelled(pod: Pod, container: Container, value: str) -> bool:
    have = labels(pod, container)
    name, equals, wanted = value.partition("=")
    return name in have and (not equals or have[name] == wanted)


def _in_network(pod: Pod, container: Container, value: str) -> bool:
    endpoints = pod.place.endpoints() if pod.place else []
    own = {n.name for _, n in endpoints} | {n.id for _, n in endpoints}
    return value in own or value == pod.spec.network


def _has_volume(pod: Pod, container: Container, value: str) -> bool:
    return any(
        value in (mount.volume.name, mount.volume.source, mount.path)
        for mount in all_mounts(container)
    )
