"""The firewall's rules as a text for nft: a function of the networks and published ports.

The whole table is replaced in one transaction, so what is there is always
complete, and a `nft flush ruleset` is mended by doing it again. Connections
under way keep their translation, which is the kernel's connection tracking's.
"""

from collections.abc import Iterable

from .model import Network, Port

# A published port and the addresses of its container ("" where it has none of that version).
Target = tuple[Port, str, str]


def ruleset(table: str, networks: list[Network], targets: Iterable[Target]) -> str:
    """What replaces the table `inet TABLE`, as a text for `nft -f`."""
    body = "\n".join(
        [
            _chain("raw", "type filter hook prerouting priority raw", _martians(networks)),
            _chain("ports", "", [rule for target in targets for rule in _published(*target)]),
            *(
                _chain(name, f"type nat hook {name} priority {priority}", _LOCAL)
                for name, priority in (("prerouting", "dstnat"), ("output", "-100"))
            ),
            _chain("postrouting", "type nat hook postrouting priority srcnat", _nat(networks)),
            _chain("forward", "type filter hook forward priority filter", _forward(networks)),
        ]
    )
    return f"{removal(table)}table inet {table} {{\n{body}\n}}\n"


def removal(table: str) -> str:
    """What removes the table, also when there is none."""
    return f"table inet {table}\ndelete table inet {table}\n"


_LOCAL = ["fib daddr type local jump ports"]


def _chain(name: str, hook: str, rules: list[str]) -> str:
    head = [f"\t\t{hook}; policy accept;"] if hook else []
    return "\n".join([f"\tchain {name} {{", *head, *(f"\t\t{rule}" for rule in rules), "\t}"])


def _set(names: list[str]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def _martians(networks: list[Network]) -> list[str]:
    """The bridges route to 127.0.0.1 for answers that are translated; nothing else may come so."""
    if not networks:
        return []
    return [f"iifname {_set([n.bridge for n in networks])} ip daddr 127.0.0.0/8 drop"]


def _published(port: Port, ipv4: str, ipv6: str) -> list[str]:
    """The translation of a published port; what it leaves is passed on by the pod's sandbox.

    That is also what a container sends to itself, which a bridge does not send back.
    """
    rules = []
    match = f"{port.protocol} dport {port.host_port}"
    if ipv4 and ":" not in port.host_ip:
        at = f"ip daddr {port.host_ip} " if port.host_ip not in ("", "0.0.0.0") else ""
        rules.append(f"ip saddr != {ipv4} {at}{match} dnat ip to {ipv4}:{port.container_port}")
    if ipv6 and (":" in port.host_ip or not port.host_ip):
        # ::1 can't be a packet's source outside of the loopback interface.
        at = port.host_ip if port.host_ip not in ("", "::") else ""
        which = f"ip6 daddr {at}" if at else "ip6 daddr != ::1"
        if at != "::1":
            rules.append(
                f"ip6 saddr != {ipv6} {which} {match} dnat ip6 to [{ipv6}]:{port.container_port}"
            )
    return rules


def _nat(networks: list[Network]) -> list[str]:
    rules = []
    for network in networks:
        bridge = f'"{network.bridge}"'
        # A container that uses the host's address to reach one of the same network.
        rules.append(f"iifname {bridge} oifname {bridge} ct status dnat masquerade")
        # The host itself, by 127.0.0.1.
        rules.append(f"oifname {bridge} ip saddr 127.0.0.0/8 masquerade")
        if network.internal:
            continue
        for subnet in network.subnets:
            family = "ip6" if subnet.version == 6 else "ip"
            rules.append(f"{family} saddr {subnet.subnet} oifname != {bridge} masquerade")
    return rules


def _forward(networks: list[Network]) -> list[str]:
    """Within a network all, out of it all, into it only published ports and answers."""
    rules = [f'iifname "{n.bridge}" oifname "{n.bridge}" accept' for n in networks]
    internal = [n.bridge for n in networks if n.internal]
    if internal:
        rules += [f"iifname {_set(internal)} drop", f"oifname {_set(internal)} drop"]
    rules += ["ct state established,related accept", "ct status dnat accept"]
    if networks:
        rules.append(f"oifname {_set([n.bridge for n in networks])} drop")
    return rules
