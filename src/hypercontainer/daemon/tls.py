"""TLS of hyperd's TCP listeners."""

import ssl

from ..client.certificates import load_authorities, load_own
from ..errors import BadRequest
from .config import Config


def server_context(config: Config) -> ssl.SSLContext | None:
    """The settings for TCP listeners; None for plain TCP. Raises BadRequest.

    With a CA every client must show a certificate that is signed by it.
    """
    if config.tls_verify and not config.tls_ca:
        raise BadRequest("--tlsverify needs TlsCA (--tlscacert): the CA of clients' certificates")
    if not (config.tls_cert or config.tls_key or config.tls_ca):
        return None
    for value, name in ((config.tls_cert, "TlsCert"), (config.tls_key, "TlsKey")):
        if not value:
            raise BadRequest(f"{name} is missing: TLS needs TlsCert and TlsKey")
    if config.host is None:
        raise BadRequest("TlsCert: TLS is for TCP listeners, and there is no Host")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert config.tls_cert and config.tls_key
    load_own(context, config.tls_cert, config.tls_key)
    if config.tls_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        load_authorities(context, config.tls_ca)
    return context
