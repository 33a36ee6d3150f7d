"""The firewall's rules."""

import subprocess

import pytest

from hypercontainer.networks.model import Network, Port, Subnet
from hypercontainer.networks.rules import ruleset

FRONT = Network(
    "1", "front", "hyb-1", (Subnet("10.1.0.0/24", "10.1.0.1"), Subnet("fd01::/64", "fd01::1"))
)
BACK = Network("2", "back", "hyb-2", (Subnet("10.2.0.0/24", "10.2.0.1"),), internal=True)
PORTS = [
    (Port("tcp", 80, 8080), "10.1.0.2", "fd01::2"),
    (Port("udp", 53, 5353, "127.0.0.1"), "10.1.0.2", "fd01::2"),
    (Port("tcp", 80, 8081, "::1"), "10.1.0.2", "fd01::2"),
    (Port("tcp", 80, 8082, "::"), "10.1.0.2", "fd01::2"),
    (Port("tcp", 80, 8083, "0.0.0.0"), "10.1.0.2", ""),
]


def rules() -> list[str]:
    return [line.strip() for line in ruleset("hyper", [FRONT, BACK], PORTS).splitlines()]


def test_ports_are_translated_for_what_has_the_version() -> None:
    found = [line for line in rules() if "dnat ip" in line]
    assert found == [
        "ip saddr != 10.1.0.2 tcp dport 8080 dnat ip to 10.1.0.2:80",
        "ip6 saddr != fd01::2 ip6 daddr != ::1 tcp dport 8080 dnat ip6 to [fd01::2]:80",
        "ip saddr != 10.1.0.2 ip daddr 127.0.0.1 udp dport 5353 dnat ip to 10.1.0.2:53",
        "ip6 saddr != fd01::2 ip6 daddr != ::1 tcp dport 8082 dnat ip6 to [fd01::2]:80",
        "ip saddr != 10.1.0.2 tcp dport 8083 dnat ip to 10.1.0.2:80",
    ]


def test_an_internal_network_has_no_way_out() -> None:
    assert 'iifname { "hyb-2" } drop' in rules()
    assert not [line for line in rules() if "10.2.0.0" in line]
    order = [line for line in rules() if line.endswith(("drop", "accept"))]
    assert order.index('iifname { "hyb-2" } drop') < order.index("ct status dnat accept")


@pytest.mark.parametrize("networks", [[], [FRONT], [FRONT, BACK]])
def test_nft_takes_them(networks: list[Network]) -> None:
    text = ruleset("hyper", networks, PORTS)
    done = subprocess.run(
        ["unshare", "-rn", "nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=20
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("no namespaces here")
    assert (done.returncode, done.stderr) == (0, "")
