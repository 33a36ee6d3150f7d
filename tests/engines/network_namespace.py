"""A network namespace of the tests' own, in which an engine makes its bridges and rules."""

import json
import os
import shutil
from pathlib import Path

from tests.engines.commands import run


class NetworkNamespace:
    """Made with `ip netns add`; `inside` prefixes a command to run in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name, check=True)
        run(*self.inside("ip", "link", "set", "lo", "up"), check=True)

    def inside(self, *argv: str) -> list[str]:
        """The command that runs `argv` in the namespace, as the same process."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]

    def links(self) -> set[str]:
        """The names of the interfaces."""
        done = run(*self.inside("ip", "-j", "link", "show"), check=True)
        return {link["ifname"] for link in json.loads(done.out)}

    def close(self) -> None:
        """Remove it, with what it has."""
        run("ip", "netns", "delete", self.name)
        if Path(f"/etc/netns/{self.name}").exists():
            shutil.rmtree(f"/etc/netns/{self.name}")


def unique(prefix: str) -> str:
    """A name that no other run of the tests uses."""
    return f"{prefix}{os.getpid()}"
