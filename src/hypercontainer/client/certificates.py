"""Certificates and keys in files: loaded into a TLS context, each trouble one clear line."""

from __future__ import annotations

import ssl

from ..errors import BadRequest

_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


class _Encrypted(Exception):
    """A key wants a password."""


def load_own(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load our own certificate and its key. Raises BadRequest."""
    _check(certificate, _CERTIFICATE, "certificate")
    _check(key, _KEY, "private key")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted:
        raise BadRequest(f"the key {key} is encrypted: take one without a password") from None
    except (OSError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise BadRequest(
                f"the key {key} does not belong to the certificate {certificate}"
            ) from None
        why = _reason(error)
        raise BadRequest(f"use the certificate {certificate} with the key {key}: {why}") from None


def load_authorities(context: ssl.SSLContext, file: str) -> None:
    """Load the authorities that the other side's certificate is to be signed by.

    Raises BadRequest.
    """
    _check(file, _CERTIFICATE, "certificate")
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise BadRequest(f"use the authorities of {file}: {_reason(error)}") from None


def _no_password() -> str:
    raise _Encrypted


def _check(file: str, mark: bytes, what: str) -> None:
    try:
        with open(file, "rb") as opened:
            text = opened.read(1 << 20)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise BadRequest(f"read the {what} {file}: {why}") from None
    if mark not in text:
        raise BadRequest(f"{file} holds no {what} in PEM form")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "it is damaged"
