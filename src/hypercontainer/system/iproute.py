"""The commands of iproute2, asked and told in JSON.

3 ms a call, where a netlink library costs 200 ms of import and 20 MB of memory
in each process that uses it.
"""

import json
import subprocess
from typing import Any

from ..errors import HyperError
from .patience import slowness

_COMMAND_BOUND = 10.0
_PACKAGES = {"nft": "nftables"}


def run(*argv: str, text: str | None = None) -> str:
    """Run a command of iproute2, or nft, `text` on its stdin. Raises HyperError: what it said."""
    bound = _COMMAND_BOUND * slowness()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=bound, input=text)
    except FileNotFoundError:
        package = _PACKAGES.get(argv[0], "iproute2")
        raise HyperError(f"{argv[0]} not found: install {package}") from None
    except subprocess.TimeoutExpired:
        raise HyperError(f"{' '.join(argv)}: no answer in {bound:.0f} s") from None
    if done.returncode != 0:
        raise HyperError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def query(*argv: str) -> list[dict[str, Any]]:
    """What `ip -j …` lists. Raises HyperError."""
    text = run("ip", "-j", *argv)
    return [item for item in json.loads(text) if item] if text.strip() else []
