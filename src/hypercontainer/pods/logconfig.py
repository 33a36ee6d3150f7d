"""Log drivers and their options, as users write them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import BadRequest, NotSupported
from .reading import Node
from .values import parse_size

JSON_FILE, LOCAL, JOURNALD, SYSLOG, NONE = "json-file", "local", "journald", "syslog", "none"
DRIVERS = (JSON_FILE, LOCAL, JOURNALD, SYSLOG, NONE)
_LATER = ("gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs")
_SIZED = {"max-size": "20m", "max-file": "5"}
_TAG = re.compile(r"\{\{ *\.(\w*) *\}\}")
TAG_WORDS = ("ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID", "DaemonName", "Pod")
FACILITIES = {
    name: number
    for number, name in enumerate(
        "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split()
    )
} | {f"local{number}": 16 + number for number in range(8)}
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_TLS = ("ca-cert", "cert", "key", "skip-verify")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """A log driver and its options; a `type` of "" is that of the configuration."""

    type: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def over(self, default: "LogConfig") -> "LogConfig":
        """With what the configuration says, where that is of the same driver."""
        kind = self.type or default.type or JSON_FILE
        below = default.options if kind == (default.type or JSON_FILE) else {}
        return LogConfig(kind, {**below, **self.options})

    @property
    def keeps(self) -> bool:
        """Whether a file is written, which can be read again."""
        return self.type != NONE and self.options.get("cache-disabled") != "true"

    @property
    def rotation(self) -> tuple[int, int]:
        """The bytes of a file before it is rotated (0: never), and how many files there may be."""
        if self.type in (JOURNALD, SYSLOG):
            names, defaults = ("cache-max-size", "cache-max-file"), _SIZED
        else:
            names = ("max-size", "max-file")
            defaults = _SIZED if self.type == LOCAL else {"max-size": "0", "max-file": "1"}
        size = self.options.get(names[0], defaults["max-size"])
        count = self.options.get(names[1], defaults["max-file"])
        return parse_size(size, names[0]) if size != "-1" else 0, int(count)


def read_log(node: Node) -> LogConfig:
    """The key `log` of a specification. Raises BadRequest, NotSupported."""
    log = node.child("log")
    if log is None:
        return LogConfig()
    kind, options = log.text("type"), log.mapping("config")
    log.done()
    return parse_log(kind, options, log.where("type"), log.where("config."))


def parse_log(kind: str, options: Mapping[str, str], where: str, where_options: str) -> LogConfig:
    """Check a driver and its options.

    Raises BadRequest, NotSupported naming what is wrong; `where_options` stands before a name.
    """
    if kind in _LATER:
        raise NotSupported(f"{where}: log driver {kind} is not supported: use syslog or journald")
    if kind and kind not in DRIVERS:
        raise BadRequest(f"{where}: {kind!r} is none of {', '.join(DRIVERS)}")
    allowed = _OPTIONS[kind or JSON_FILE]
    for name, value in options.items():
        if name not in allowed:
            hint = ", ".join(sorted(allowed)) or "none"
            raise BadRequest(
                f"{where_options}{name}: {kind or JSON_FILE} has no such option; it has: {hint}"
            )
        try:
            allowed[name](value)
        except (BadRequest, NotSupported) as error:
            raise type(error)(f"{where_options}{name}: {error.message}") from None
    return LogConfig(kind, dict(options))


def _size(value: str) -> None:
    if value != "-1":
        try:
            parse_size(value, "")
        except BadRequest:
            raise BadRequest(f"{value!r} is not a size such as 10m") from None


def _count(value: str) -> None:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1000):
        raise BadRequest(f"{value!r} is not a number from 1 to 1000")


def _names(value: str) -> None:
    if not all(value.split(",")):
        raise BadRequest(f"{value!r} is not a list of names separated by commas")


def _one_of(*words: str, unsupported: Mapping[str, str] | None = None) -> Callable[[str], None]:
    def check(value: str) -> None:
        if unsupported and value in unsupported:
            raise NotSupported(unsupported[value])
        if value not in words:
            raise BadRequest(f"{value!r} is none of {', '.join(map(repr, words))}")

    return check


def _tag(value: str) -> None:
    for word in _TAG.findall(value):
        if word not in TAG_WORDS:
            known = ", ".join("{{." + name + "}}" for name in TAG_WORDS)
            raise BadRequest(f"{{{{.{word}}}}} is not known: use {known}")
    if "{{" in _TAG.sub("", value) or not value.isprintable():
        raise BadRequest(f"{value!r} is not a tag such as {{{{.Name}}}}")


def fill_tag(template: str, words: Mapping[str, str]) -> str:
    """A tag with its words of TAG_WORDS filled in."""
    return _TAG.sub(lambda match: words[match[1]], template)


def parse_address(value: str) -> tuple[str, str | tuple[str, int]]:
    """The network (`local`, unix, unixgram, udp or tcp) and the address of a syslog.

    "" is the local one. Raises BadRequest, NotSupported.
    """
    if not value:
        return "local", ""
    parts = urlsplit(value)
    if parts.scheme in ("unix", "unixgram"):
        if not parts.path.startswith("/") or parts.netloc:
            raise BadRequest(f"{value!r} has no absolute path")
        return parts.scheme, parts.path
    if parts.scheme == "tcp+tls":
        raise NotSupported("tcp+tls is not supported yet: use tcp, or a local syslog that relays")
    try:
        port = parts.port or 514
    except ValueError:
        port = 0
    if parts.scheme not in ("udp", "tcp") or not parts.hostname or not port or parts.path:
        raise BadRequest(
            f"{value!r} is not unix:///PATH, unixgram:///PATH, udp:// or tcp://HOST:PORT"
        )
    return parts.scheme, (parts.hostname, port)


def parse_facility(value: str) -> int:
    """The number of a facility given by name or number. Raises BadRequest."""
    if value.isascii() and value.isdigit() and int(value) < 24:
        return int(value)
    if value not in FACILITIES:
        raise BadRequest(f"{value!r} is none of {', '.join(FACILITIES)}")
    return FACILITIES[value]


def _unsupported(value: str) -> None:
    raise NotSupported("TLS to a syslog is not supported yet: use a local syslog that relays")


_BLOCKING = {"blocking": "a log never holds a container up: only non-blocking is supported"}
_COMMON: dict[str, Callable[[str], object]] = {
    "mode": _one_of("non-blocking", unsupported=_BLOCKING),
}
_FILES = _COMMON | {
    "max-size": _size,
    "max-file": _count,
    "labels": _names,
    "env": _names,
    "tag": _tag,
    "compress": _one_of("false", unsupported={"true": "compressed logs are not supported"}),
}
_SENDERS = _COMMON | {
    "tag": _tag,
    "max-buffer-size": _size,
    "cache-disabled": _one_of("true", "false"),
    "cache-max-size": _size,
    "cache-max-file": _count,
}
_OPTIONS: dict[str, dict[str, Callable[[str], object]]] = {
    JSON_FILE: _FILES,
    LOCAL: _FILES,
    JOURNALD: _SENDERS | {"labels": _names, "env": _names},
    SYSLOG: _SENDERS
    | {
        "syslog-address": parse_address,
        "syslog-facility": parse_facility,
        "syslog-format": _one_of(*FORMATS),
    }
    | {f"syslog-tls-{name}": _unsupported for name in _TLS},
    NONE: {},
}
OPTION_NAMES = sorted({name for options in _OPTIONS.values() for name in options})
