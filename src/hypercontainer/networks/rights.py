"""Whether this process may make bridges."""

import os
import shutil

_CAP_NET_ADMIN = 12


def lacking(*, rules: bool) -> str:
    """What is missing for networks with bridges, "" when nothing is; `rules`: nft is needed."""
    if not _has_capability(_CAP_NET_ADMIN):
        return "hyperd has not the capability NET_ADMIN"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/net/tun can't be opened: {error.strerror}"
    if shutil.which("ip") is None:
        return "ip is missing: install iproute2"
    if rules and shutil.which("nft") is None:
        return "nft is missing: install nftables, or set DisableIptables"
    if not os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK):
        return "/proc/sys is read-only"
    return ""


def _has_capability(number: int) -> bool:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False
