"""Applying the rules: nft, and making room for them beside others' firewalls."""

import json
import subprocess
from collections.abc import Iterable

from ..errors import HyperError
from ..system.patience import slowness
from .model import Network
from .rules import Target, removal, ruleset

_COMMAND_BOUND = 15.0
# The chain that Docker keeps for others' rules; it drops what it does not know, also our packets.
_DOCKER_CHAIN = "DOCKER-USER"


class Firewall:
    """The table of one hyperd. `table` is its name; with `enabled` false nothing is done."""

    def __init__(self, table: str, *, enabled: bool) -> None:
        self.table = table
        self.enabled = enabled
        self._admitted: list[str] | None = None

    def apply(self, networks: list[Network], targets: Iterable[Target]) -> None:
        """Replace the rules by those of the networks and published ports. Raises HyperError."""
        if not self.enabled:
            return
        _nft(ruleset(self.table, networks, targets))
        bridges = [n.bridge for n in networks]
        if bridges != self._admitted:
            _admit(self.table, bridges)
            self._admitted = bridges

    def there(self) -> bool:
        """Whether the rules are there. Raises HyperError."""
        listed = json.loads(_run("nft", "-j", "list", "tables"))["nftables"]
        return any(
            (item["table"]["family"], item["table"]["name"]) == ("inet", self.table)
            for item in listed
            if "table" in item
        )

    def forget(self) -> None:
        """Others may have changed what there is: look again at the next `apply`."""
        self._admitted = None

    def remove(self) -> None:
        """Take all rules away. Raises HyperError."""
        if self.enabled:
            _nft(removal(self.table))
            _admit(self.table, [])
            self._admitted = None


def _nft(text: str) -> None:
    _run("nft", "-f", "-", text=text)


def _run(*argv: str, text: str = "") -> str:
    bound = _COMMAND_BOUND * slowness()
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=bound)
    except FileNotFoundError:
        raise HyperError(f"{argv[0]} not found: install nftables, or set DisableIptables") from None
    except subprocess.TimeoutExpired:
        raise HyperError(f"{argv[0]}: no answer in {bound:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[0]
        raise HyperError(f"{' '.join(argv)}: {last}")
    return done.stdout


def _admit(table: str, bridges: list[str]) -> None:
    """Let Docker's firewall pass what concerns our bridges, where there is one."""
    for family in ("ip", "ip6"):
        try:
            listed = json.loads(_run("nft", "-j", "list", "chain", family, "filter", _DOCKER_CHAIN))
        except (HyperError, ValueError):
            continue
        rules = [item["rule"] for item in listed["nftables"] if "rule" in item]
        ours = {
            str(rule["comment"]): rule["handle"]
            for rule in rules
            if str(rule.get("comment", "")).startswith(f"{table} ")
        }
        wanted = {f"{table} {key} {b}": (key, b) for b in bridges for key in ("iifname", "oifname")}
        where = f"rule {family} filter {_DOCKER_CHAIN}"
        lines = [
            f"delete {where} handle {handle}"
            for comment, handle in ours.items()
            if comment not in wanted
        ]
        lines += [
            f'insert {where} {key} "{bridge}" counter accept comment "{comment}"'
            for comment, (key, bridge) in wanted.items()
            if comment not in ours
        ]
        if lines:
            _nft("\n".join(lines) + "\n")
