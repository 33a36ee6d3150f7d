"""Addresses of networks: which are valid, which are given out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import BadRequest, Conflict, HyperError
from hypercontainer.networks.addresses import (
    free_subnet,
    free_subnet6,
    make_subnet,
    overlapping,
    take,
)
from hypercontainer.networks.model import Subnet


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("10.0.0.0",), "no room"),
        (("10.0.0.1/24",), "host bits set"),
        (("10.0.0.0/31",), "no room"),
        (("127.0.0.0/8",), "not a subnet for pods"),
        (("0.0.0.0/0",), "too large"),
        (("224.0.0.0/4",), "not a subnet for pods"),
        (("x",), "is not a subnet such as"),
        (("10.0.0.0/24", "10.0.1.1"), "gateway: 10.0.1.1 is outside of the subnet 10.0.0.0/24"),
        (("10.0.0.0/24", "10.0.0.255"), "not an address of a host"),
        (("10.0.0.0/24", "", "10.0.1.0/25"), "not part of the subnet"),
        (("10.0.0.0/24", "", "fd00::/64"), "not part of the subnet"),
        (("fd00::/64", "fe80::1%eth0"), "zone"),
    ],
)
def test_bad_subnets(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        make_subnet(*arguments)


def test_the_gateway_is_the_first_address() -> None:
    assert make_subnet("10.9.0.0/24").gateway == "10.9.0.1"
    assert make_subnet("fd00:9::/64").gateway == "fd00:9::1"


def test_a_wanted_address_is_checked() -> None:
    subnet = make_subnet("10.9.0.0/24")
    assert take(subnet, set(), "n", wanted="10.9.0.7") == "10.9.0.7"
    for wanted, used, kind, says in (
        ("10.8.0.7", set(), BadRequest, "outside of the subnet"),
        ("10.9.0.0", set(), BadRequest, "not an address of a host"),
        ("10.9.0.1", set(), Conflict, "is the gateway"),
        ("10.9.0.7", {"10.9.0.7"}, Conflict, "in use in network n"),
    ):
        with pytest.raises(kind, match=says):
            take(subnet, used, "n", wanted=wanted)


@given(st.integers(24, 30), st.integers(1, 300))
def test_every_address_is_given_once_and_then_none(length: int, count: int) -> None:
    subnet = make_subnet(f"10.9.0.0/{length}")
    used: set[str] = set()
    after = ""
    room = (1 << (32 - length)) - 3
    for _ in range(min(count, room)):
        after = take(subnet, used, "n", after=after)
        assert after not in used and after not in ("10.9.0.0", "10.9.0.1")
        used.add(after)
    if count > room:
        with pytest.raises(Conflict, match="no free address left"):
            take(subnet, used, "n", after=after)


def test_addresses_come_from_the_range_and_in_turn() -> None:
    subnet = Subnet("10.9.0.0/24", "10.9.0.1", "10.9.0.64/30")
    first = take(subnet, set(), "n")
    assert first == "10.9.0.64"
    assert take(subnet, set(), "n", after=first) == "10.9.0.65"
    assert take(subnet, set(), "n", after="10.9.0.67") == "10.9.0.64"
    assert take(subnet, set(), "n", last="10.9.0.66") == "10.9.0.66"
    assert take(subnet, {"10.9.0.66"}, "n", last="10.9.0.66") == "10.9.0.64"


def test_overlaps() -> None:
    host = [("192.168.0.0/16", "eth0"), ("fd00::/8", "eth1")]
    assert overlapping("192.168.5.0/24", host) == "192.168.0.0/16 of eth0"
    assert overlapping("fd01::/64", host) == "fd00::/8 of eth1"
    assert not overlapping("10.0.0.0/8", host)


def test_free_subnets_are_free() -> None:
    assert free_subnet([]).subnet == "172.30.0.0/24"
    assert free_subnet([("172.30.0.0/16", "eth0")]).subnet == "172.31.0.0/24"
    with pytest.raises(HyperError, match="give one by --subnet"):
        free_subnet([("172.16.0.0/12", "eth0")])
    assert free_subnet6([]).subnet.startswith("fd")
