"""Routes of networks, in Docker's wire form, and the original's of port mappings."""

from typing import Any

from aiohttp import web

from ..errors import BadRequest, Conflict
from ..networks import DEFAULT, Network, Port
from ..pods.model import Pod
from ..pods.network_views import select, view
from ..pods.reading import Node
from ..pods.spec_network import read_mapping, read_wish
from . import params
from .context import of
from .routes_events import filters
from .routing import Body, Route, json_value, text

_MAX_PORTS = 2048
_MTU = "com.docker.network.driver.mtu"


def _network(request: web.Request) -> Network:
    registry = of(request).pods.networking.networks.registry
    return registry.find(params.text(request, "network"))


async def create(request: web.Request) -> web.Response:
    """Make a network with its bridge; a subnet that is not given is chosen."""
    node = Node(await params.body_object(request))
    name = node.text("Name")
    node.boolean("CheckDuplicate")
    node.choice("Driver", ("bridge",), "bridge")
    node.choice("Scope", ("local",), "local")
    for key in ("Attachable", "Ingress", "ConfigOnly"):
        if node.boolean(key):
            raise node.bad(key, "only false is supported")
    options = node.mapping("Options")
    wanted = {
        "internal": node.boolean("Internal"),
        "ipv6": node.boolean("EnableIPv6"),
        "labels": node.mapping("Labels"),
        "options": options,
        "subnets": _subnets(node.child("IPAM")),
    }
    mtu = options.get(_MTU, "1500")
    if not mtu.isascii() or not mtu.isdigit() or not 576 <= int(mtu) <= 65535:
        raise BadRequest(f"Options.{_MTU}: {mtu!r} is not a number of bytes from 576 to 65535")
    node.done()
    network = await of(request).pods.networking.create(name, wanted)
    return web.json_response({"Id": network.id, "Warning": ""}, status=201)


def _subnets(ipam: Node | None) -> list[dict[str, str]]:
    if ipam is None:
        return []
    ipam.choice("Driver", ("default",), "default")
    if ipam.mapping("Options"):
        raise ipam.bad("Options", "not supported")
    found = []
    for item in ipam.objects("Config"):
        subnet = item.text("Subnet")
        gateway, ip_range = item.text("Gateway"), item.text("IPRange")
        item.done()
        if not subnet:
            raise item.bad("Subnet", "missing")
        found.append({"subnet": subnet, "gateway": gateway, "ip_range": ip_range})
    ipam.done()
    return found


async def listing(request: web.Request) -> web.Response:
    """The networks that match `filters`: name, id, driver, label, type, dangling."""
    service = of(request).pods
    return web.json_response([view(service, n) for n in select(service, filters(request))])


async def inspect(request: web.Request) -> web.Response:
    """A network, with the containers that run in it."""
    return web.json_response(view(of(request).pods, _network(request)))


async def remove(request: web.Request) -> web.Response:
    """Remove a network that no pod is in."""
    await of(request).pods.networking.remove(_network(request))
    return web.Response(status=204)


async def prune(request: web.Request) -> web.Response:
    """Remove the networks that no pod is in."""
    service = of(request).pods
    registry = service.networking.networks.registry
    gone = []
    for network in select(service, filters(request)):
        if network.name != DEFAULT and not registry.endpoints_in(network):
            try:
                await service.networking.remove(network)
            except Conflict:
                continue
            gone.append(network.name)
    return web.json_response({"NetworksDeleted": gone})


async def connect(request: web.Request) -> web.Response:
    """Put a container's pod in a network; a card is plugged in if it runs."""
    node = Node(await params.body_object(request))
    pod = _pod_of(request, node)
    network = of(request).pods.networking.networks.registry.find(node.text("Network"))
    endpoint = node.child("EndpointConfig") or Node({}, "EndpointConfig")
    ipam = endpoint.child("IPAMConfig") or Node({}, endpoint.where("IPAMConfig"))
    wish = read_wish(
        Node(
            {
                "name": network.name,
                "ip": ipam.text("IPv4Address"),
                "ip6": ipam.text("IPv6Address"),
                "mac": endpoint.text("MacAddress"),
                "aliases": list(endpoint.texts("Aliases")),
            },
            "EndpointConfig",
        )
    )
    for part in (ipam, endpoint, node):
        part.done()
    await of(request).pods.networking.connect(pod, wish)
    return web.json_response({})


async def disconnect(request: web.Request) -> web.Response:
    """Take a container's pod out of a network."""
    node = Node(await params.body_object(request))
    pod = _pod_of(request, node)
    network = of(request).pods.networking.networks.registry.find(node.text("Network"))
    node.boolean("Force")
    node.done()
    await of(request).pods.networking.disconnect(pod, network)
    return web.json_response({})


def _pod_of(request: web.Request, node: Node) -> Pod:
    return of(request).pods.pod(node.text("Container"))


async def list_ports(request: web.Request) -> web.Response:
    """The published ports of a pod; host ports of 0 are chosen when it starts."""
    pod = of(request).pods.pod(request.match_info["pod"])
    place = pod.place
    ports = (place.ports() or place.wanted_ports()) if place else ()
    return web.json_response({"portMappings": [_mapping(port) for port in ports]})


def _mapping(port: Port) -> dict[str, Any]:
    return {
        "containerPort": port.container_port,
        "hostPort": port.host_port,
        "protocol": port.protocol,
        "hostIP": port.host_ip,
    }


async def edit_ports(request: web.Request) -> web.Response:
    """Publish further ports of a pod (`add`), or take some back (`delete`)."""
    service = of(request).pods
    action = request.match_info["action"]
    if action not in ("add", "delete"):
        raise BadRequest(f"{request.path}: {action!r} is neither add nor delete")
    pod = service.pod(request.match_info["pod"])
    items = await params.body(request)
    if not isinstance(items, list):
        raise BadRequest("the body is not a JSON array")
    ports: list[Port] = []
    for index, item in enumerate(items):
        ports += read_mapping(Node(item, f"[{index}]"))
        if len(ports) > _MAX_PORTS:
            raise BadRequest(f"more than {_MAX_PORTS} ports")
    if action == "add":
        await service.networking.publish(pod, tuple(ports))
    else:
        await service.networking.unpublish(pod, tuple(ports))
    return web.Response(status=204)


NETWORK = text("network", "name, id or a unique beginning of the id", required=True)
FILTERS = json_value("filters", "keys `name`, `id`, `driver`, `label`, `type`, `dangling`")
ROUTES = [
    Route(
        "POST",
        "/network/create",
        create,
        body=Body(
            "Docker's: `{Name, IPAM, Internal, EnableIPv6, Labels, Options}`", schema="Network"
        ),
        answer="`{Id, Warning}`",
        status=201,
    ),
    Route("GET", "/networks", listing, FILTERS, answer="a list of networks, in Docker's form"),
    Route("GET", "/network/inspect", inspect, NETWORK, answer="the network, in Docker's form"),
    Route(
        "DELETE",
        "/network",
        remove,
        NETWORK,
        answer="nothing; 409 when a pod is in it",
        status=204,
    ),
    Route("POST", "/networks/prune", prune, FILTERS, answer="`{NetworksDeleted}`"),
    Route(
        "POST",
        "/network/connect",
        connect,
        body=Body("`{Container, Network, EndpointConfig}`", schema="Connect"),
    ),
    Route(
        "POST",
        "/network/disconnect",
        disconnect,
        body=Body("`{Container, Network}`", schema="Disconnect"),
    ),
    Route(
        "GET",
        "/pod/{pod}/portmappings",
        list_ports,
        answer="`{portMappings: [{containerPort, hostPort, protocol, hostIP}]}`",
    ),
    Route(
        "PUT",
        "/pod/{pod}/portmappings/{action}",
        edit_ports,
        body=Body("an array of `{containerPort, hostPort, protocol, hostIP}`", schema="Ports"),
        answer="nothing",
        status=204,
    ),
]
