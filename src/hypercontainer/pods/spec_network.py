"""The network part of a pod's specification."""

import ipaddress

from ..errors import BadRequest
from .reading import Node


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
