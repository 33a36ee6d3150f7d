"""How to reach a registry host: scheme, certificates, proxies.

Certificates lie where Docker has them: `/etc/docker/certs.d/HOST/` (and `/etc/hyper/certs.d/HOST/`)
with `*.crt` for authorities, `*.cert` and `*.key` for client certificates.
"""

import ipaddress
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadRequest
from .reference import DEFAULT_HOST

CERTIFICATES = (Path("/etc/docker/certs.d"), Path("/etc/hyper/certs.d"))
HUB = "registry-1.docker.io"


@dataclass(frozen=True)
class Endpoint:
    """A registry to ask: `name` is what people call it, `address` what is connected to."""

    name: str
    address: str
    schemes: tuple[str, ...]
    verify: bool
    prefix: str = ""

    @property
    def is_mirror(self) -> bool:
        return self.name == DEFAULT_HOST and self.address != HUB


@dataclass(frozen=True)
class Hosts:
    """What is configured about registries."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: tuple[Path, ...] = CERTIFICATES

    def endpoints(self, host: str) -> list[Endpoint]:
        """Where to look for images of `host`, in order; mirrors stand in for docker.io only."""
        if host != DEFAULT_HOST:
            return [self._endpoint(host, host)]
        found = [self._mirror(mirror) for mirror in self.mirrors]
        return [*found, self._endpoint(DEFAULT_HOST, HUB)]

    def _mirror(self, url: str) -> Endpoint:
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "", url
        address, _, prefix = rest.rstrip("/").partition("/")
        if scheme not in ("", "http", "https") or not address:
            raise BadRequest(f"bad registry mirror {url!r}: it must be http://HOST or https://HOST")
        endpoint = self._endpoint(DEFAULT_HOST, address)
        schemes = (scheme,) if scheme else endpoint.schemes
        return Endpoint(DEFAULT_HOST, address, schemes, endpoint.verify, prefix)

    def _endpoint(self, name: str, address: str) -> Endpoint:
        if not self.is_insecure(address):
            return Endpoint(name, address, ("https",), verify=True)
        if self.authorities(address):
            return Endpoint(name, address, ("https",), verify=True)
        return Endpoint(name, address, ("https", "http"), verify=False)

    def is_insecure(self, address: str) -> bool:
        """Whether http, or a certificate nobody vouches for, is allowed for `HOST[:PORT]`."""
        host = address.rpartition(":")[0] if _has_port(address) else address
        host = host.strip("[]")
        if host == "localhost" or address in self.insecure or host in self.insecure:
            return True
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        if ip.is_loopback:
            return True
        return any(_in_network(ip, entry) for entry in self.insecure)

    def authorities(self, address: str) -> list[Path]:
        """The files of certificate authorities for a host."""
        return [
            file for base in self.certificates for file in sorted((base / address).glob("*.crt"))
        ]

    def tls(self, endpoint: Endpoint) -> ssl.SSLContext:
        """The TLS settings of an endpoint; reads files. BadRequest when one is damaged."""
        context = ssl.create_default_context()
        if not endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        file = Path()
        try:
            for file in self.authorities(endpoint.address):
                context.load_verify_locations(cafile=file)
            for base in self.certificates:
                for file in sorted((base / endpoint.address).glob("*.cert")):
                    context.load_cert_chain(file, file.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise BadRequest(f"can't use the certificate {file}: {error}") from None
        return context


def _has_port(address: str) -> bool:
    return ":" in address.rpartition("]")[2]


def _in_network(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return "/" in entry and ip in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for a URL."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy or urllib.request.proxy_bypass(host) or host.startswith(("127.", "localhost")):
        return None
    return proxy
