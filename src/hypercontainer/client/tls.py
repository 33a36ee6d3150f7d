"""How a client speaks TLS with hyperd: its files, and what goes wrong in words."""

from __future__ import annotations

import os
import ssl

from ..errors import BadRequest
from .certificates import load_authorities, load_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Codes of OpenSSL's X509_V_ERR_…
_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)


class TLS:
    """TLS for `Client`: `ca` is the authority that signed hyperd's certificate (none: those of
    the system), `cert` and `key` are our own; files in PEM form. With `verify` false hyperd
    may be anybody.
    """

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        """Raises BadRequest for a certificate without a key, or the reverse."""
        if bool(cert) != bool(key):
            raise BadRequest("a client certificate and its key belong together: give both")
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify

    @classmethod
    def of_directory(
        cls, directory: str, *, ca: str = "", cert: str = "", key: str = "", verify: bool = True
    ) -> TLS:
        """With `ca.pem`, `cert.pem` and `key.pem` of a directory, where they are there, in
        place of the files that are not given.
        """

        def found(name: str) -> str:
            path = os.path.join(directory, name)
            return path if os.path.exists(path) else ""

        if not cert and not key:
            cert, key = found("cert.pem"), found("key.pem")
        return cls(ca or found("ca.pem"), cert, key, verify=verify)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> TLS | None:
        """What HYPER_TLS_VERIFY and HYPER_CERT_PATH say; None when the first is empty."""
        if not environment.get("HYPER_TLS_VERIFY"):
            return None
        return cls.of_directory(directory_of(environment))

    def context(self) -> ssl.SSLContext:
        """The settings for connections. Raises BadRequest when a file can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca:
            load_authorities(context, self.ca)
        else:
            context.load_default_certs()
        if self.cert:
            load_own(context, self.cert, self.key)
        return context

    def explain(self, error: Exception, host: str) -> str:
        """Why a connection did not come about, or ended, in words."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._explain_verification(error, host)
        reason = str(getattr(error, "reason", "") or "").upper()
        if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
            return "it does not speak TLS"
        if "ALERT_CERTIFICATE_EXPIRED" in reason:
            return f"it refuses our certificate {self.cert}: expired"
        if "ALERT_UNKNOWN_CA" in reason or "ALERT_BAD_CERTIFICATE" in reason:
            return f"it refuses our certificate {self.cert}: not signed by its CA"
        if reason and "EOF" not in reason and "CERTIFICATE_REQUIRED" not in reason:
            return reason.replace("_", " ").lower()
        if self.cert:
            return (
                f"it ended the TLS connection: is our certificate {self.cert} signed by its CA,"
                " and not expired?"
            )
        return (
            "it ended the TLS connection: does it want a client certificate? (--tlscert, --tlskey)"
        )

    def _explain_verification(self, error: ssl.SSLCertVerificationError, host: str) -> str:
        code = error.verify_code
        if code == _EXPIRED:
            return "its certificate has expired"
        if code == _NOT_YET:
            return "its certificate is not valid yet: are the clocks right?"
        if code in _UNKNOWN:
            return f"its certificate is not signed by {self.ca or 'an authority of this system'}"
        if code in _OTHER_NAME:
            return f"its certificate is not for {host}"
        return str(error.verify_message)


def directory_of(environment: Mapping[str, str]) -> str:
    """Where a client's files are: HYPER_CERT_PATH, else ~/.hyper."""
    return environment.get("HYPER_CERT_PATH") or os.path.expanduser("~/.hyper")
