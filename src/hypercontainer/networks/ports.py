"""Published ports: choosing free ones, and finding conflicts before anything is started."""

import errno
from collections.abc import Iterable

from ..errors import Conflict
from ..sandbox.forward import bind, refusal
from .model import Port

_ANY = ("", "0.0.0.0", "::")
_ATTEMPTS = 64


def resolve(wanted: Iterable[Port], others: Iterable[tuple[str, Port]]) -> tuple[Port, ...]:
    """The ports with numbers for those left to us; each can be had now.

    `others` are those of other pods, with the pods' ids. Raises Conflict when one
    is taken, BadRequest for an address that is none of this host's.
    """
    taken = list(others)
    found: list[Port] = []
    for port in wanted:
        chosen = _check(port, taken) if port.host_port else _choose(port, taken)
        found.append(chosen)
        taken.append(("this pod", chosen))
    return tuple(found)


def _check(port: Port, taken: list[tuple[str, Port]]) -> Port:
    for pod, other in taken:
        if _collide(port, other):
            raise Conflict(
                f"publish {_host(port)}/{port.protocol}: port is already allocated, by {pod}"
            )
    error = _bind_error(port)
    if error is not None:
        raise refusal(error, port.protocol, port.host_ip or "0.0.0.0", port.host_port)
    return port


def _choose(port: Port, taken: list[tuple[str, Port]]) -> Port:
    for _ in range(_ATTEMPTS):
        try:
            with bind(port.protocol, port.host_ip or "0.0.0.0", 0) as sock:
                number = int(sock.getsockname()[1])
        except OSError as error:
            raise refusal(error, port.protocol, port.host_ip or "0.0.0.0", 0) from error
        chosen = Port(port.protocol, port.container_port, number, port.host_ip)
        if not any(_collide(chosen, other) for _, other in taken) and not _bind_error(chosen):
            return chosen
    raise Conflict(f"publish {port.container_port}/{port.protocol}: no port of the host is free")


def _collide(one: Port, other: Port) -> bool:
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    if one.host_ip == "" or other.host_ip == "" or one.host_ip == other.host_ip:
        return True
    same_family = (":" in one.host_ip) == (":" in other.host_ip)
    return same_family and (one.host_ip in _ANY or other.host_ip in _ANY)


def _bind_error(port: Port) -> OSError | None:
    for host in [port.host_ip] if port.host_ip else ["0.0.0.0", "::"]:
        try:
            bind(port.protocol, host, port.host_port).close()
        except OSError as error:
            if host == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue
            return error
    return None


def _host(port: Port) -> str:
    return str(port).partition("->")[0]
