"""Networks between pods: bridges, addresses, published ports, names."""

from .addresses import make_subnet, parse_address
from .host import MODES, Settings
from .model import DEFAULT, Endpoint, Network, PodNet, Port, Service, Subnet, Wish
from .service import Networks
from .store import NetworkStore

__all__ = [
    "DEFAULT",
    "MODES",
    "Endpoint",
    "Network",
    "NetworkStore",
    "Networks",
    "PodNet",
    "Port",
    "Service",
    "Settings",
    "Subnet",
    "Wish",
    "make_subnet",
    "parse_address",
]
