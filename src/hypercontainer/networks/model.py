"""Networks, the places of pods in them, and published ports: what is stored."""

from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT = "bridge"
RESERVED = (DEFAULT, "none", "user", "host", "default", "container")


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of addresses of a network; `ip_range` is the part that is given out ("": all)."""

    subnet: str
    gateway: str
    ip_range: str = ""

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True, slots=True)
class Network:
    """A network: a bridge with its subnets, at most one of IPv4 and one of IPv6. `mtu` in bytes."""

    id: str
    name: str
    bridge: str
    subnets: tuple[Subnet, ...]
    mtu: int = 1500
    internal: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    created_at: str = ""

    def subnet(self, version: int) -> Subnet | None:
        """The subnet of IPv4 (4) or IPv6 (6)."""
        return next((s for s in self.subnets if s.version == version), None)

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Network":
        """The reverse of `to_json`."""
        return cls(**{**data, "subnets": tuple(Subnet(**s) for s in data["subnets"])})


@dataclass(slots=True)
class Endpoint:
    """A pod's place in a network.

    `wanted` are addresses that the user chose, `aliases` further names.
    The addresses are those it has, or had last; `active` while it holds them.
    """

    network: str
    pod: str
    device: str
    mac: str
    wanted: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ipv4: str = ""
    ipv6: str = ""
    active: bool = False

    @property
    def addresses(self) -> list[str]:
        """The addresses it has, without lengths."""
        return [a for a in (self.ipv4, self.ipv6) if a]

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Endpoint":
        """The reverse of `to_json`."""
        lists = {key: tuple(data.get(key) or ()) for key in ("wanted", "aliases")}
        return cls(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class Port:
    """A published port. `host_ip` "" means all addresses; `host_port` 0 one that is free."""

    protocol: str
    container_port: int
    host_port: int = 0
    host_ip: str = ""

    def __str__(self) -> str:
        ip = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or "0.0.0.0"
        return f"{ip}:{self.host_port}->{self.container_port}/{self.protocol}"

    def to_json(self) -> dict[str, Any]:
        """As stored, and as sandboxes are told."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Service:
    """An in-pod service: a virtual address whose connections are spread over backends (IPv4)."""

    ip: str
    port: int
    protocol: str
    backends: tuple[tuple[str, int], ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What makes it another service."""
        return self.ip, self.port, self.protocol

    def to_guest(self) -> dict[str, Any]:
        """As the guest is told (SETSERVICES)."""
        return {
            "ip": self.ip,
            "port": self.port,
            "udp": self.protocol == "udp",
            "backends": [{"ip": ip, "port": port} for ip, port in self.backends],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Service":
        """As stored."""
        return cls(**{**data, "backends": tuple((ip, port) for ip, port in data["backends"])})


@dataclass(slots=True)
class PodNet:
    """What a pod has of networks: its ports, and whom it asks for names of the outside."""

    pod: str
    dns: tuple[str, ...] = ()
    wanted_ports: tuple[Port, ...] = ()
    ports: tuple[Port, ...] = ()
    active: bool = False
    services: tuple[Service, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PodNet":
        """The reverse of `to_json`."""
        ports = {key: tuple(Port(**p) for p in data[key]) for key in ("wanted_ports", "ports")}
        services = tuple(Service.from_json(s) for s in data.get("services") or ())
        return cls(**{**data, "dns": tuple(data["dns"]), **ports, "services": services})


@dataclass(frozen=True, slots=True)
class Wish:
    """A network that a pod is to be in, and what was asked for there."""

    network: str
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
