"""A network namespace of the tests' own, in which an engine makes its bridges and rules."""

import http.client
import json
import os
import shutil
import time
import urllib.request
from pathlib import Path

from hypercontainer.system.threads import in_network_namespace
from tests.engines.commands import BOUND, run


class NetworkNamespace:
    """Made with `ip netns add`; `inside` prefixes a command to run in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name, check=True)
        run(*self.inside("ip", "link", "set", "lo", "up"), check=True)

    def inside(self, *argv: str) -> list[str]:
        """The command that runs `argv` in the namespace, as the same process."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]

    def fetch(self, url: str) -> str:
        """What a web server says to who asks from within the namespace, once it answers."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return in_network_namespace(descriptor, lambda: _fetch(url))
        finally:
            os.close(descriptor)

    def links(self) -> set[str]:
        """The names of the interfaces."""
        done = run(*self.inside("ip", "-j", "link", "show"), check=True)
        return {link["ifname"] for link in json.loads(done.out)}

    def close(self) -> None:
        """Remove it, with what it has."""
        run("ip", "netns", "delete", self.name)
        if Path(f"/etc/netns/{self.name}").exists():
            shutil.rmtree(f"/etc/netns/{self.name}")


def _fetch(url: str) -> str:
    deadline = time.monotonic() + BOUND
    while True:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return str(answer.read().decode())
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def unique(prefix: str) -> str:
    """A name that no other run of the tests uses."""
    return f"{prefix}{os.getpid()}"
