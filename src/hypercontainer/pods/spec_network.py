"""The network part of a pod's specification."""

import ipaddress
import re
from dataclasses import dataclass, replace

from ..errors import BadRequest, NotSupported
from ..networks import DEFAULT, MODES, Port, Service, Wish
from .names import check_name
from .reading import Node, refuse

_MAX_PORTS = 2048
_MAX_NETWORKS = 8
_MAX_SERVICES = 256
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
HOST_GATEWAY = "host-gateway"


@dataclass(frozen=True, slots=True)
class NetSpec:
    """What a pod wants of networks.

    `mode` is none, user, a network's name or "" for what hyperd decides;
    `wishes` are the networks, none for the modes none and user; `hosts` are
    lines for /etc/hosts as (name, address), where the address may be `host-gateway`;
    with `publish_all` the ports that the images expose are published too.
    """

    mode: str = ""
    wishes: tuple[Wish, ...] = ()
    ports: tuple[Port, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    publish_all: bool = False
    services: tuple[Service, ...] = ()


def read_network(node: Node) -> NetSpec:
    """The keys `network`, `networks`, `interfaces`, `portmappings` and `extraHosts`."""
    refuse(node, "portmappingWhiteLists")
    mode = node.text("network")
    networks = node.objects("networks")
    interfaces = node.objects("interfaces")
    if sum(map(bool, (mode, networks, interfaces))) > 1:
        raise BadRequest("network, networks and interfaces: give only one of them")
    if mode == "host" or mode.startswith("container:"):
        raise NotSupported(
            f"{node.where('network')}: {mode}: a VM has a network of its own: use bridge or user,"
            " or put the containers in one pod"
        )
    if mode and mode not in MODES:
        check_name(mode, node.where("network"))
        wishes = [Wish(mode)]
    elif networks:
        wishes = [read_wish(item) for item in networks]
    else:
        wishes = _interfaces(interfaces)
    if len(wishes) > _MAX_NETWORKS:
        raise BadRequest(f"{node.where('networks')}: more than {_MAX_NETWORKS} networks")
    for index, wish in enumerate(wishes):
        if any(w.network == wish.network for w in wishes[:index]):
            raise BadRequest(f"{node.where('networks')}[{index}]: {wish.network} is given twice")
    return NetSpec(
        mode=wishes[0].network if wishes else mode,
        wishes=tuple(wishes),
        ports=read_ports(node, "portmappings"),
        hosts=tuple(_extra_host(text, path) for path, text in node.items("extraHosts")),
        publish_all=node.boolean("publishAllPorts"),
        services=read_services(node.objects("services")),
    )


def with_ports(net: NetSpec, ports: tuple[Port, ...]) -> NetSpec:
    """With the ports of containers too. Raises BadRequest for one given twice."""
    every = (*net.ports, *ports)
    if len(every) > _MAX_PORTS:
        raise BadRequest(f"portmappings: more than {_MAX_PORTS} ports")
    seen: set[tuple[str, int, str]] = set()
    for port in every:
        key = (port.protocol, port.host_port, port.host_ip)
        if port.host_port and key in seen:
            raise BadRequest(f"portmappings: {port} is given twice")
        seen.add(key)
    if every and net.mode == "none":
        raise BadRequest("portmappings: the pod has no network, so no port can be published")
    return replace(net, ports=every)


def read_wish(node: Node) -> Wish:
    """A network that the pod is to be in."""
    name = node.text("name")
    if name in ("", *MODES):
        raise node.bad("name", f"{name!r} is not the name of a network")
    check_name(name, node.where("name"))
    aliases = node.texts("aliases")
    for index, alias in enumerate(aliases):
        if not _HOST.fullmatch(alias):
            raise node.bad(f"aliases[{index}]", f"{alias!r} is not a host name")
    wish = Wish(name, _ip(node, "ip", 4), _ip(node, "ip6", 6), _mac(node), aliases)
    node.done()
    return wish


def _ip(node: Node, key: str, version: int) -> str:
    text = node.text(key)
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise node.bad(key, f"{text!r} is not an IP address") from None
    if address.version != version:
        raise node.bad(key, f"{text} is not an address of IPv{version}")
    return str(address)


def _mac(node: Node) -> str:
    mac = node.text("mac").lower()
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00"):
        raise node.bad("mac", f"{mac!r} is not the address of a card such as 52:54:00:12:34:56")
    return mac


def _interfaces(nodes: list[Node]) -> list[Wish]:
    """UserInterface of the original; `bridge` is the name of a network, or of its bridge."""
    wishes = []
    for node in nodes:
        bridge, text = node.text("bridge"), node.text("ip")
        node.text("id")
        refuse(node, "ifname", "mtu", "gateway")
        if bridge and not text:
            raise node.bad("ip", "an interface with a bridge needs an address")
        address = ""
        if text:
            try:
                address = str(ipaddress.ip_interface(text).ip)
            except ValueError:
                raise node.bad("ip", f"{text!r} is not an address such as 10.1.2.3/24") from None
        version6 = ":" in address
        wish = Wish(
            bridge or DEFAULT,
            "" if version6 else address,
            address if version6 else "",
            _mac(node),
        )
        wishes.append(wish)
        node.done()
    return wishes


def read_ports(node: Node, key: str) -> tuple[Port, ...]:
    """An array of PortMapping, ranges as single ports."""
    ports: list[Port] = []
    for item in node.objects(key):
        ports += read_mapping(item)
        if len(ports) > _MAX_PORTS:
            raise BadRequest(f"{node.where(key)}: more than {_MAX_PORTS} ports")
    return tuple(ports)


def read_mapping(node: Node) -> list[Port]:
    """A PortMapping: ports are numbers or texts, single or FIRST-LAST."""
    protocol = node.text("protocol").lower() or "tcp"
    if protocol not in ("tcp", "udp"):
        why = f"{protocol!r} is neither tcp nor udp"
        raise (
            NotSupported(f"{node.where('protocol')}: {why}")
            if protocol == "sctp"
            else node.bad("protocol", why)
        )
    inner = _range(node, "containerPort")
    outer = _range(node, "hostPort")
    refuse(node, "servicePort")
    host_ip = node.text("hostIP")
    if host_ip:
        try:
            host_ip = str(ipaddress.ip_address(host_ip))
        except ValueError:
            raise node.bad("hostIP", f"{host_ip!r} is not an IP address") from None
    node.done()
    if not inner:
        raise node.bad("containerPort", "missing")
    if outer and len(outer) != len(inner):
        raise node.bad("hostPort", f"{len(outer)} ports for {len(inner)} of the container")
    numbers = outer or [0] * len(inner)
    return [Port(protocol, i, o, host_ip) for i, o in zip(inner, numbers, strict=True)]


def read_services(nodes: list[Node]) -> tuple[Service, ...]:
    """UserServices of the original. Raises BadRequest for one given twice."""
    found: dict[tuple[str, int, str], Service] = {}
    for node in nodes:
        service = _service(node)
        if service.key in found:
            raise BadRequest(f"{node.path}: the service {service.ip}:{service.port} is there twice")
        found[service.key] = service
    if len(found) > _MAX_SERVICES:
        raise BadRequest(f"services: more than {_MAX_SERVICES}")
    return tuple(found.values())


def _service(node: Node) -> Service:
    protocol = node.choice("protocol", ("tcp", "udp"), "tcp")
    ip, port = _service_ip(node, "serviceIP"), node.integer("servicePort", 0, 1, 65535)
    backends = []
    for item in node.objects("hosts"):
        backends.append((_service_ip(item, "hostIP"), item.integer("hostPort", 0, 1, 65535)))
        if not backends[-1][1]:
            raise item.bad("hostPort", "missing")
        item.done()
    if not port:
        raise node.bad("servicePort", "missing")
    if len(backends) > _MAX_SERVICES or len(set(backends)) < len(backends):
        raise node.bad("hosts", f"each once, and at most {_MAX_SERVICES}")
    node.done()
    return Service(ip, port, protocol, tuple(backends))


def _service_ip(node: Node, key: str) -> str:
    text = _ip(node, key, 4)
    if not text:
        raise node.bad(key, "missing")
    return text


def _range(node: Node, key: str) -> list[int]:
    value = node.take(key)
    if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
        return []
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    match = _RANGE.fullmatch(text)
    if not match:
        raise node.bad(key, f"{value!r} is not a port or a range such as 8000-8010")
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if not 1 <= first <= last <= 65535:
        raise node.bad(key, f"{text} is not between 1 and 65535")
    if last - first >= _MAX_PORTS:
        raise node.bad(key, f"{text} has more than {_MAX_PORTS} ports")
    return list(range(first, last + 1))


def _extra_host(value: object, path: str) -> tuple[str, str]:
    """NAME:ADDRESS (or NAME=ADDRESS)."""
    text = value if isinstance(value, str) else ""
    cut = text.find("=") if "=" in text else text.find(":")
    name, address = text[: max(cut, 0)], text[cut + 1 :].strip("[]")
    if not _HOST.fullmatch(name):
        raise BadRequest(f"{path}: {value!r} is not of the form NAME:ADDRESS")
    if address != HOST_GATEWAY:
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            raise BadRequest(f"{path}: {address!r} is not an IP address") from None
    return name, address


def addresses(node: Node, key: str) -> tuple[str, ...]:
    """An array of IP addresses."""
    values = node.texts(key)
    for index, value in enumerate(values):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise BadRequest(
                f"{node.where(key)}[{index}]: {value!r} is not an IP address"
            ) from None
    return values


def words(node: Node, key: str) -> tuple[str, ...]:
    """An array of strings without white space."""
    values = node.texts(key)
    for index, value in enumerate(values):
        if not value or any(c.isspace() for c in value):
            raise BadRequest(f"{node.where(key)}[{index}]: {value!r} is not one word")
    return values
