"""Pods and containers as hyperd knows them: what is stored, and what lives only in memory."""

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..sandbox import SandboxClient
from .spec import PodSpec
from .spec_container import ContainerSpec
from .spec_health import HealthSpec

if TYPE_CHECKING:
    from .place import Place


class Status(StrEnum):
    """The states of a container, in Docker's words (and `starting`)."""

    CREATED = "created"
    STARTING = "starting"
    RESTARTING = "restarting"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    REMOVING = "removing"


LIVE = (Status.RUNNING, Status.PAUSED)
ZERO_TIME = "0001-01-01T00:00:00Z"


def now() -> str:
    """The time as RFC 3339 in UTC with microseconds."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def seconds_between(begin: str, end: str) -> float:
    """Seconds from one RFC 3339 time to another; 0 when one is missing."""
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


@dataclass(slots=True)
class State:
    """What became of a container. Times are RFC 3339, `""` when it has not happened.

    `reason` says why it ended (a signal, out of memory, a dead VM), `error` why it
    did not start. `restarts` counts them since a user started it, `stopped` says that
    a user ended it, `boot` is the host's boot in which it was started, `volumes_too`
    that it is removed with its anonymous volumes.
    """

    status: Status = Status.CREATED
    exit_code: int = 0
    signal: int = 0
    oom: bool = False
    pid: int = 0
    reason: str = ""
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    restarts: int = 0
    stopped: bool = False
    boot: str = ""
    health: str = ""
    volumes_too: bool = False

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "State":
        """The reverse of `to_json`."""
        known = {key: value for key, value in data.items() if key in cls.__slots__}
        return cls(**{**known, "status": Status(data["status"])})


@dataclass(slots=True, eq=False)
class Health:
    """The examination of a running container.

    `log` has the last results in Docker's form, `failures` those in a row; `known` is
    set once there is a verdict.
    """

    spec: HealthSpec
    log: deque[dict[str, Any]]
    failures: int = 0
    known: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Container:
    """A container. `raw` is its specification as given.

    `image_config` is the `config` object of its image, as it was at create.
    """

    id: str
    pod_id: str
    name: str
    spec: ContainerSpec
    image: str
    image_id: str
    image_config: dict[str, Any]
    created_at: str
    raw: dict[str, Any]
    anonymous: list[str] = field(default_factory=list)
    state: State = field(default_factory=State)

    # Not stored: those who attached before the start (and whether with stdin), the rows and
    # columns of the terminal to begin with, why it was killed, the
    # seconds waited before its last restart, and the end of this run.
    waiting: list[tuple["asyncio.Future[Attachment]", bool]] = field(default_factory=list)
    window: tuple[int, int] | None = None
    kill_reason: str = ""
    delay: float = 0.0
    health: Health | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def live(self) -> bool:
        """Whether its processes exist."""
        return self.state.status in LIVE

    @property
    def short_id(self) -> str:
        """The first 12 digits of the id."""
        return self.id[:12]


Attachment = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True, eq=False)
class Pod:
    """A pod: one VM while it runs. `raw` is its specification as given, but for the containers.

    A `suspended` one is paused on disk: its containers are paused, and it has no VM.
    """

    id: str
    spec: PodSpec
    raw: dict[str, Any]
    created_at: str
    containers: list[Container] = field(default_factory=list)

    # Not stored.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    client: SandboxClient | None = None
    suspended: bool = False
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    vm: dict[str, Any] = field(default_factory=dict)
    place: "Place | None" = None

    @property
    def live(self) -> bool:
        """Whether a container of it lives."""
        return any(container.live for container in self.containers)

    @property
    def starting(self) -> bool:
        """Whether a container of it is being started."""
        return any(c.state.status == Status.STARTING for c in self.containers)

    @property
    def single(self) -> bool:
        """Whether it is a command-line container: its only container has its name."""
        return len(self.containers) == 1 and self.containers[0].name == self.id

    @property
    def hostname(self) -> str:
        """The host name of its containers."""
        return self.spec.hostname or self.id[:63].rstrip("-_.")
