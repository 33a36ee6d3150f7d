"""What names may be: they become parts of paths, and others' tools split them."""

import re
from collections.abc import Mapping

from ...errors import BadRequest

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_IDENTIFIER_LIMIT = 76
_LABEL_LIMIT = 4096
_KEY_LIMIT = 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_identifier(name: str, what: str) -> str:
    """A namespace, a container, an exec, a lease. Raises BadRequest."""
    if not name:
        raise BadRequest(f"no {what} is given")
    if len(name) > _IDENTIFIER_LIMIT:
        raise BadRequest(f"the {what} {name[:20]!r}… is longer than {_IDENTIFIER_LIMIT} characters")
    if not _IDENTIFIER.fullmatch(name):
        raise BadRequest(
            f"bad {what} {name!r}: letters, digits, and single . _ - between them are allowed"
        )
    return name


def check_key(name: str, what: str) -> str:
    """An image's name, a snapshot's key, a reference of content: any text. Raises BadRequest."""
    if not name:
        raise BadRequest(f"no {what} is given")
    if len(name) > _KEY_LIMIT or "\0" in name:
        raise BadRequest(f"bad {what} {name[:40]!r}: at most {_KEY_LIMIT} characters, no zeros")
    return name


def check_digest(digest: str) -> str:
    """Raises BadRequest for what is no digest of sha256."""
    if not _DIGEST.fullmatch(digest):
        raise BadRequest(f"bad digest {digest[:80]!r}: sha256: and 64 hexadecimal digits are known")
    return digest


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Raises BadRequest for labels that are too long."""
    for key, value in labels.items():
        if len(key) + len(value) > _LABEL_LIMIT:
            raise BadRequest(f"the label {key[:64]!r} is longer than {_LABEL_LIMIT} characters")
    return dict(labels)
