"""The names of containers, as hyperd writes them for all sandboxes, and who is asked else.

The file is JSON: `{"networks": {ID: {"names": {NAME: [ADDRESS, …]},
"pointers": {ADDRESS: NAME}, "internal": bool}}, "clients": {"BRIDGE ADDRESS":
{"networks": [ID, …], "dns": [ADDRESS, …]}}}`. It is read again when it changes, so
names are answered while hyperd is not there.
"""

import ipaddress
import json
import os
from typing import Any, NamedTuple

from . import dns

_MAX_FILE = 64 << 20
_RESOLV_CONF = "/etc/resolv.conf"


class Verdict(NamedTuple):
    """What becomes of a query: a reply, or the servers to ask (one of them is set, or none)."""

    reply: bytes = b""
    servers: tuple[str, ...] = ()


class _Watched:
    """A file, read when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] = (0, 0, 0)
        self.text = ""

    def changed(self) -> bool:
        """Whether `text` is another than at the last call."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp:
                return False
            with open(self._path, errors="replace") as file:
                self.text = file.read(_MAX_FILE)
        except OSError:
            return False
        self._stamp = stamp
        return True


class Records:
    """Answers for the clients of one file of records."""

    def __init__(self, path: str) -> None:
        self._file = _Watched(path)
        self._host = _Watched(_RESOLV_CONF)
        self._data: dict[str, Any] = {}
        self._upstream: tuple[str, ...] = ()
        self._turn = 0

    def _refresh(self) -> None:
        if self._file.changed():
            try:
                self._data = json.loads(self._file.text)
            except ValueError:
                pass
        if self._host.changed():
            self._upstream = nameservers(self._host.text)

    def judge(self, query: bytes, bridge: str, client: str) -> Verdict:
        """What to do about the query of a client's address at a bridge."""
        self._refresh()
        question = dns.parse(query)
        known = self._data.get("clients", {}).get(f"{bridge} {client}")
        if known is None:
            return Verdict(dns.answer(question, [], dns.REFUSED) if question else b"")
        all_networks = self._data.get("networks", {})
        networks = [all_networks[n] for n in known["networks"] if n in all_networks]
        if question is not None and (reply := self._own(question, networks)):
            return Verdict(reply)
        if all(network["internal"] for network in networks):
            # A query to the outside would be a way out.
            return Verdict(dns.answer(question, [], dns.NXDOMAIN) if question else b"")
        servers = tuple(known["dns"]) or self._upstream
        if not servers and question is not None:
            return Verdict(dns.answer(question, [], dns.SERVFAIL))
        return Verdict(servers=servers)

    def _own(self, question: dns.Question, networks: list[dict[str, Any]]) -> bytes:
        """The answer about a container, b"" when it is about something else."""
        if address := dns.reverse_address(question.name):
            for network in networks:
                if name := network["pointers"].get(address):
                    records = (
                        [dns.pointer_record(name)] if question.kind in (dns.PTR, dns.ANY) else []
                    )
                    return dns.answer(question, records)
            return b""
        found: list[str] = []
        for network in networks:
            found += network["names"].get(question.name, [])
        if not found:
            return b""
        self._turn += 1
        shift = self._turn % len(found)
        turned = found[shift:] + found[:shift]
        return dns.answer(question, dns.address_records(question.kind, turned))


def nameservers(text: str) -> tuple[str, ...]:
    """The addresses of the name servers of a resolv.conf."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append(words[1])
    return tuple(found[:3])
