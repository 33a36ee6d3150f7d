"""What a sandbox is told of a container's log."""

import re
from pathlib import Path
from typing import Any

from .logconfig import JOURNALD, SYSLOG, LogConfig, fill_tag, parse_address, parse_facility
from .model import Container, Pod
from .oci import environment_of
from .values import parse_size
from .views import labels

_DEFAULT_TAG = "{{.ID}}"


def log_target(pod: Pod, container: Container, config: LogConfig, path: Path) -> dict[str, Any]:
    """The `log` of a sandbox's request; `path` is the file, where one is kept."""
    size, count = config.rotation
    tag = fill_tag(config.options.get("tag") or _DEFAULT_TAG, _words(pod, container))
    attrs = _chosen(pod, container, config)
    target: dict[str, Any] = {
        "path": str(path) if config.keeps else "",
        "max_size": size,
        "max_file": count,
        "attrs": attrs | ({"tag": tag} if "tag" in config.options else {}),
    }
    limit = parse_size(config.options.get("max-buffer-size", "1m"), "max-buffer-size")
    if config.type == JOURNALD:
        fields = _journal_fields(container, tag, attrs)
        target["remote"] = {"type": JOURNALD, "fields": fields, "limit": limit}
    elif config.type == SYSLOG:
        network, address = parse_address(config.options.get("syslog-address", ""))
        target["remote"] = {
            "type": SYSLOG,
            "network": network,
            "address": address,
            "facility": parse_facility(config.options.get("syslog-facility", "daemon")),
            "format": config.options.get("syslog-format", ""),
            "tag": tag,
            "limit": limit,
        }
    return target


def _words(pod: Pod, container: Container) -> dict[str, str]:
    image_id = container.image_id
    return {
        "ID": container.short_id,
        "FullID": container.id,
        "Name": container.name,
        "ImageName": container.image,
        "ImageID": image_id.removeprefix("sha256:")[:12],
        "ImageFullID": image_id,
        "DaemonName": "hyper",
        "Pod": pod.id,
    }


def _chosen(pod: Pod, container: Container, config: LogConfig) -> dict[str, str]:
    """The labels and variables that the options `labels` and `env` name."""
    ours = labels(pod, container)
    environment = dict(
        entry.partition("=")[::2]
        for entry in environment_of(container.spec, container.image_config, pod.hostname)
    )
    result: dict[str, str] = {}
    for option, values in (("labels", ours), ("env", environment)):
        for name in config.options.get(option, "").split(","):
            if name in values:
                result[name] = values[name]
    return result


def _journal_fields(container: Container, tag: str, attrs: dict[str, str]) -> dict[str, str]:
    """Docker's fields of a journal entry; names of others as the journal takes them."""
    others = {_field_name(name): value for name, value in attrs.items()}
    return {name: value for name, value in others.items() if name} | {
        "CONTAINER_ID": container.short_id,
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "SYSLOG_IDENTIFIER": tag,
        "IMAGE_NAME": container.image,
    }


def _field_name(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:64]
