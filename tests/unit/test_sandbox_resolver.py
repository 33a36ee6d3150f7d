"""resolv.conf of a container whose name server is on the loopback of the host's namespace."""

import asyncio
from pathlib import Path

from hypercontainer.sandbox.resolver import ADDRESS, ResolverFile, localized


def test_loopback_servers_become_the_relay() -> None:
    text = "# Docker\nsearch x\nnameserver 127.0.0.11\noptions ndots:0\n"
    assert localized(text) == (text.replace("127.0.0.11", ADDRESS), "127.0.0.11")


def test_other_servers_stay() -> None:
    text = "nameserver 10.0.0.1\nnameserver ::1\nnameserver\nnameserver x\n"
    assert localized(text) == (text, "")


def test_one_relay_is_enough() -> None:
    assert localized("nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 9.9.9.9\n") == (
        f"nameserver {ADDRESS}\nnameserver 9.9.9.9\n",
        "127.0.0.1",
    )


async def test_the_copy_follows_the_file(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_text("nameserver 10.0.0.1\n")
    servers: list[str] = []
    file = ResolverFile(str(source), str(copy), servers.append)
    assert (copy.read_text(), file.server) == ("nameserver 10.0.0.1\n", "")
    source.write_text("nameserver 127.0.0.11\n")
    async with asyncio.timeout(10):
        while not servers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert servers == ["127.0.0.11"]
    assert copy.read_text() == f"nameserver {ADDRESS}\n"
    file.close()
    assert not copy.exists()
