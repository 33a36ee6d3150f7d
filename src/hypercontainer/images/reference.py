"""Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, read the way Docker reads them.

Grammar: the `reference` package's description in the distribution project's documentation.
"""

import re
from dataclasses import dataclass, replace

from ..errors import BadRequest

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"

_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_NAME_LIMIT = 255


@dataclass(frozen=True)
class Reference:
    """A whole reference: host, path below it, and a tag, a digest, or both."""

    host: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Host and path: `docker.io/library/busybox`."""
        return f"{self.host}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: `busybox`, `user/app`, `host:5000/app`."""
        if self.host != DEFAULT_HOST:
            return self.name
        first, _, rest = self.path.partition("/")
        return rest if first == "library" and rest else self.path

    @property
    def target(self) -> str:
        """What to ask a registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_digest(self, digest: str) -> "Reference":
        """The same name, by digest alone."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        """The familiar form, with tag and digest."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"

    @property
    def canonical(self) -> str:
        """The form with host and everything: unique for what it names."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse(text: str) -> Reference:
    """Read a reference; raises BadRequest that says which part is wrong."""
    if _HEX_ID.fullmatch(text):
        raise BadRequest(
            f"bad image name {text}: 64 hexadecimal digits are an image id, not a name"
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise BadRequest(f"bad image name {text!r}: {digest!r} is no digest (sha256:…)")
    rest, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise BadRequest(f"bad image name {text!r}: {tag!r} is no tag")
    host, path = _split_host(rest)
    _check_path(text, host, path)
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if len(host) + 1 + len(path) > _NAME_LIMIT:
        raise BadRequest(f"bad image name: longer than {_NAME_LIMIT} characters")
    if tag is None and not digest:
        tag = DEFAULT_TAG
    return Reference(host, path, tag, digest or None)


def has_tag(text: str) -> bool:
    """Whether a reference names a tag or a digest itself."""
    return "@" in text or _split_tag(text)[1] is not None


def _split_tag(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    if not colon or "/" in tail:
        return text, None
    return head, tail


def _split_host(text: str) -> tuple[str, str]:
    """The first part is a host if it looks like one: a dot, a colon, `localhost`, a capital."""
    first, slash, rest = text.partition("/")
    is_host = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    if not is_host:
        return DEFAULT_HOST, text
    if first in ("index.docker.io", "registry-1.docker.io"):
        first = DEFAULT_HOST
    return first, rest


def _check_path(text: str, host: str, path: str) -> None:
    if not _HOST.fullmatch(host):
        raise BadRequest(f"bad image name {text!r}: {host!r} is no host name")
    if not path:
        raise BadRequest(f"bad image name {text!r}: the name is empty")
    for component in path.split("/"):
        if _COMPONENT.fullmatch(component):
            continue
        if component.lower() != component:
            raise BadRequest(f"bad image name {text!r}: the name must be lower case")
        raise BadRequest(
            f"bad image name {text!r}: {component!r} is not made of lower-case letters and digits"
            " with single separators . _ -"
        )


def is_digest(text: str) -> bool:
    """Whether `text` is a digest that we can verify."""
    return _DIGEST.fullmatch(text) is not None
