"""The options `-v`, `--mount`, `--tmpfs` and `--volumes-from`, as Docker reads them."""

from __future__ import annotations

import os

from .arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from .arguments import Parser

_IGNORED = ("z", "Z", "cached", "delegated", "consistent", "rprivate", "private")
_PROPAGATIONS = ("shared", "rshared", "slave", "rslave")
_TARGET = ("target", "destination", "dst")
_KEYS = {
    "bind": ("source", "src", "readonly", "ro", "bind-propagation", "consistency"),
    "volume": (
        *("source", "src", "readonly", "ro", "volume-nocopy", "volume-driver", "volume-opt"),
        *("volume-label", "consistency"),
    ),
    "tmpfs": ("tmpfs-size", "tmpfs-mode", "readonly", "ro", "consistency"),
    "disk": ("source", "src", "readonly", "ro", "format", "fstype", "cache"),
}


def add_options(parser: Parser) -> None:
    """Add the options to the parser of `run` and `create`."""
    group = parser.add_argument_group("volumes")
    add = group.add_argument
    add(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="[SOURCE:]PATH[:OPTIONS]",
        help="put the host's directory or file SOURCE, or the volume of that name, at PATH;"
        " options: ro, nocopy",
    )
    add(
        "--mount",
        action="append",
        default=[],
        metavar="type=TYPE,target=PATH,…",
        help="the same in words: type bind, volume, tmpfs, or disk for a disk image"
        " (docs/volumes.md)",
    )
    add(
        "--tmpfs",
        action="append",
        default=[],
        metavar="PATH[:OPTIONS]",
        help="memory at PATH; options such as size=64m,mode=1777",
    )
    add(
        "--volumes-from",
        action="append",
        default=[],
        metavar="CONTAINER[:ro]",
        help="the volumes of another container",
    )


def container_keys(args: argparse.Namespace) -> dict[str, Any]:
    """What the options put into the specification of a container. Raises UsageError."""
    keys: dict[str, Any] = {
        "volumes": [
            *map(volume, args.volume),
            *map(mount, args.mount),
            *map(tmpfs, args.tmpfs),
        ],
        "volumesFrom": list(args.volumes_from),
    }
    return {key: value for key, value in keys.items() if value}


def volume(item: str) -> dict[str, object]:
    """The specification of `[SOURCE:]PATH[:OPTIONS]`.

    A source with a slash at its start or after dots is a path of the host, another
    one the name of a volume. Raises UsageError.
    """
    parts = item.split(":")
    options = parts.pop().split(",") if len(parts) > 1 and not parts[-1].startswith("/") else []
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"--volume: {item!r} is not [SOURCE:]PATH[:OPTIONS]")
    path = parts[-1]
    if not path.startswith("/"):
        raise UsageError(f"--volume: {path!r} in {item!r} is not an absolute path")
    result: dict[str, object] = {"path": path, "readOnly": "ro" in options}
    for option in options:
        if option in _PROPAGATIONS:
            raise UsageError(f"--volume: {option} in {item!r} is not supported: a VM is between")
        if option not in ("ro", "rw", "nocopy", *_IGNORED):
            raise UsageError(f"--volume: unknown option {option!r} in {item!r}")
    if "nocopy" in options:
        result["noCopy"] = True
    if len(parts) == 2:
        source = parts[0]
        if source.startswith(("/", "./", "../", "~")) or source in (".", ".."):
            result["detail"] = {"source": _absolute(source), "format": "vfs"}
        else:
            result["detail"] = {"name": source}
    return result


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def mount(item: str) -> dict[str, object]:
    """The specification of `type=…,target=…`. Raises UsageError."""
    import csv

    words = next(csv.reader([item]), [])
    given: dict[str, str] = {}
    lists: dict[str, dict[str, str]] = {"volume-opt": {}, "volume-label": {}}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip().lower()
        if key in lists:
            name, _, content = value.partition("=")
            lists[key][name] = content
        elif key in given:
            raise UsageError(f"--mount: {key} is given twice in {item!r}")
        else:
            given[key] = value if equals else "true"
    kind = given.pop("type", "volume")
    if kind not in _KEYS:
        raise UsageError(f"--mount: type {kind!r} is none of {', '.join(_KEYS)}")
    path = next((given.pop(key) for key in _TARGET if key in given), "")
    if not path.startswith("/"):
        raise UsageError(f"--mount: target={path!r} in {item!r} is not an absolute path")
    unknown = set(given) | {key for key, value in lists.items() if value}
    if unknown := unknown - set(_KEYS[kind]):
        raise UsageError(f"--mount: {sorted(unknown)[0]!r} is unknown to the type {kind}")
    read_only = _truth(given, "readonly", item) or _truth(given, "ro", item)
    source = given.get("source") or given.get("src") or ""
    result: dict[str, object] = {"path": path, "readOnly": read_only}
    if _truth(given, "volume-nocopy", item):
        result["noCopy"] = True
    detail = _detail(kind, source, given, lists, item)
    return {**result, "detail": detail} if detail else result


def _truth(given: dict[str, str], key: str, item: str) -> bool:
    value = given.get(key, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise UsageError(f"--mount: {key}={value} in {item!r} is neither true nor false")
    return value in ("true", "1")


def _detail(
    kind: str, source: str, given: dict[str, str], lists: dict[str, dict[str, str]], item: str
) -> dict[str, object]:
    if kind == "bind":
        if not source:
            raise UsageError(f"--mount: source is missing in {item!r}")
        propagation = given.get("bind-propagation", "rprivate")
        if propagation not in ("rprivate", "private"):
            raise UsageError(f"--mount: bind-propagation={propagation} is not supported")
        return {"source": _absolute(source), "format": "vfs", "mustExist": True}
    if kind == "disk":
        if not source:
            raise UsageError(f"--mount: source is missing in {item!r}")
        keys = {key: given[key] for key in ("fstype", "cache") if given.get(key)}
        return {"source": _absolute(source), "format": given.get("format") or "raw", **keys}
    if kind == "tmpfs":
        options = [
            f"{name}={given[key]}"
            for name, key in (("size", "tmpfs-size"), ("mode", "tmpfs-mode"))
            if given.get(key)
        ]
        return {"format": "tmpfs", **({"options": ",".join(options)} if options else {})}
    create: dict[str, object] = {
        "driver": given.get("volume-driver", ""),
        "options": lists["volume-opt"],
        "labels": lists["volume-label"],
    }
    create = {key: value for key, value in create.items() if value}
    detail: dict[str, object] = {"name": source} if source else {}
    return {**detail, "create": create} if create else detail


def tmpfs(item: str) -> dict[str, object]:
    """The specification of `PATH[:OPTIONS]`. Raises UsageError."""
    path, _, options = item.partition(":")
    if not path.startswith("/"):
        raise UsageError(f"--tmpfs: {path!r} is not an absolute path")
    detail = {"format": "tmpfs", **({"options": options} if options else {})}
    return {"path": path, "detail": detail}
