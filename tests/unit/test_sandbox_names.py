"""Names of containers: the answers of the sandboxes' name servers."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.sandbox import dns
from hypercontainer.sandbox.records import Records, nameservers

CLIENT = "10.1.0.9"
DATA = {
    "networks": {
        "A": {
            "names": {"web": ["10.1.0.2", "fd01::2"], "pool": ["10.1.0.3", "10.1.0.4"]},
            "pointers": {"10.1.0.2": "web.a", "fd01::2": "web.a"},
            "internal": False,
        },
        "B": {"names": {"db": ["10.2.0.2"]}, "pointers": {}, "internal": True},
    },
    "clients": {
        f"br {CLIENT}": {"networks": ["A"], "dns": ["9.9.9.9"]},
        "br 10.1.0.8": {"networks": ["A", "B"], "dns": ["9.9.9.9"]},
        "br2 10.2.0.3": {"networks": ["B"], "dns": []},
    },
}


def query(name: str, kind: int = dns.A) -> bytes:
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!HH", kind, 1)


def parsed(reply: bytes) -> tuple[int, list[bytes]]:
    """The code and the data of the records."""
    number, flags, questions, count = struct.unpack_from("!HHHH", reply)
    assert (number, flags & 0x8000, questions) == (7, 0x8000, 1)
    at = reply.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from("!H", reply, at + 10)
        found.append(reply[at + 12 : at + 12 + size])
        at += 12 + size
    assert at == len(reply)
    return flags & 15, found


@pytest.fixture
def records(tmp_path: Path) -> Records:
    path = tmp_path / "names.json"
    path.write_text(json.dumps(DATA))
    return Records(str(path))


def ask(records: Records, name: str, kind: int = dns.A, client: str = CLIENT) -> object:
    verdict = records.judge(query(name, kind), "br", client)
    return parsed(verdict.reply) if verdict.reply else verdict.servers


def test_addresses_of_both_versions(records: Records) -> None:
    assert ask(records, "web") == (0, [bytes([10, 1, 0, 2])])
    assert ask(records, "WEB", dns.AAAA) == (0, [bytes.fromhex("fd01" + "00" * 13 + "02")])
    assert ask(records, "web", 15) == (0, [])


def test_several_addresses_take_turns(records: Records) -> None:
    firsts = {records.judge(query("pool"), "br", CLIENT).reply[-4:] for _ in range(2)}
    assert firsts == {bytes([10, 1, 0, 3]), bytes([10, 1, 0, 4])}


def test_pointers(records: Records) -> None:
    assert ask(records, "2.0.1.10.in-addr.arpa", dns.PTR) == (0, [b"\3web\1a\0"])
    digits = "2" + ".0" * 27 + ".1.0.d.f"
    assert ask(records, f"{digits}.ip6.arpa", dns.PTR) == (0, [b"\3web\1a\0"])
    assert ask(records, "9.9.9.9.in-addr.arpa", dns.PTR) == ("9.9.9.9",)


def test_only_the_clients_networks_are_seen(records: Records) -> None:
    assert ask(records, "db") == ("9.9.9.9",)
    assert ask(records, "db", client="10.1.0.8") == (0, [bytes([10, 2, 0, 2])])
    assert ask(records, "web", client="10.66.0.1") == (dns.REFUSED, [])
    assert parsed(records.judge(query("web"), "other", CLIENT).reply) == (dns.REFUSED, [])


def test_no_query_leaves_an_internal_network(records: Records) -> None:
    verdict = records.judge(query("example.org"), "br2", "10.2.0.3")
    assert parsed(verdict.reply) == (dns.NXDOMAIN, [])
    assert parsed(records.judge(query("db"), "br2", "10.2.0.3").reply)[0] == 0


def test_the_file_is_read_again_when_it_changes(records: Records, tmp_path: Path) -> None:
    assert ask(records, "new") == ("9.9.9.9",)
    changed = json.loads(json.dumps(DATA))
    changed["networks"]["A"]["names"]["new"] = ["10.1.0.50"]
    (tmp_path / "other").write_text(json.dumps(changed))
    (tmp_path / "other").rename(tmp_path / "names.json")
    assert ask(records, "new") == (0, [bytes([10, 1, 0, 50])])
    (tmp_path / "names.json").write_text("{ half")
    assert ask(records, "new") == (0, [bytes([10, 1, 0, 50])])


@given(st.binary(max_size=300))
def test_nothing_that_a_guest_sends_is_an_exception(data: bytes) -> None:
    records = Records("/nonexistent")
    records._data = DATA
    records.judge(data, "br", CLIENT)
    records.judge(query("web")[: len(data)] + data, "br", CLIENT)


def test_resolv_conf() -> None:
    text = "# x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver bad\nsearch a\n"
    assert nameservers(text) == ("127.0.0.53", "fe80::1%eth0")
