"""Manifests, manifest lists and image configurations.

Formats: OCI image specification 1.1, and Docker's "Image Manifest Version 2, Schema 2".
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from ..errors import NotFound
from .failures import BadImage
from .reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
ACCEPTED = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
LAYER_LIMIT = 500


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says of a blob."""

    digest: str
    size: int
    media_type: str = ""


@dataclass(frozen=True)
class Manifest:
    """An image: its configuration and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Choice:
    """One image of a manifest list."""

    descriptor: Descriptor
    platform: str


def digest_of(data: bytes) -> str:
    """The sha256 digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_manifest(data: bytes, what: str) -> Manifest | list[Choice]:
    """A manifest, or the choices of a manifest list; BadImage when it is neither."""
    document = _object(data, what)
    media_type = document.get("mediaType", "")
    if document.get("schemaVersion") == 1:
        raise BadImage(
            f"{what} has an old manifest (schema 1): push it again with a newer Docker or skopeo"
        )
    if "manifests" in document and media_type in ("", OCI_INDEX, DOCKER_LIST):
        return [_choice(item, what) for item in _list(document, "manifests", what)]
    if media_type not in ("", OCI_MANIFEST, DOCKER_MANIFEST) or "config" not in document:
        raise BadImage(f"{what} is not a container image (media type {media_type or 'unknown'})")
    config = _descriptor(document["config"], what)
    if config.media_type not in ("", OCI_CONFIG, DOCKER_CONFIG):
        raise BadImage(f"{what} is not a container image: its kind is {config.media_type}")
    layers = tuple(_descriptor(item, what) for item in _list(document, "layers", what))
    for layer in layers:
        if "+encrypted" in layer.media_type:
            raise BadImage(f"{what} has encrypted layers, which are not supported")
    if len(layers) > LAYER_LIMIT:
        raise BadImage(f"{what} is refused: more than {LAYER_LIMIT} layers")
    return Manifest(config, layers)


def choose(choices: list[Choice], platform: str, what: str) -> Descriptor:
    """The image for `platform` (`OS/ARCHITECTURE[/VARIANT]`); NotFound lists what there is."""
    for choice in choices:
        if choice.platform == platform:
            return choice.descriptor
    for choice in choices:
        if same_platform(choice.platform, platform):
            return choice.descriptor
    offered = [c.platform for c in choices if not c.platform.startswith("unknown")]
    raise no_platform(platform, what, ",".join(dict.fromkeys(offered)) or "none")


def same_platform(offered: str, wanted: str) -> bool:
    """Whether an image of platform `offered` runs on `wanted`; a variant unsaid fits any."""
    have, want = offered.split("/"), wanted.split("/")
    if have[:2] != want[:2]:
        return False
    defaults = {"arm64": "v8", "amd64": "v1", "arm": "v7"}
    default = defaults.get(want[1] if len(want) > 1 else "", "")
    return (have[2] if len(have) > 2 else default) == (want[2] if len(want) > 2 else default)


def no_platform(platform: str, what: str, offered: str) -> NotFound:
    """The error of an image that is made for other machines."""
    return NotFound(f"no image for {platform} in {what}: it offers {offered}")


def read_config(data: bytes, what: str) -> tuple[dict[str, Any], list[str]]:
    """An image's configuration, and the digests of its plain layers, bottom first."""
    config = _object(data, f"the configuration of {what}")
    rootfs = config.get("rootfs")
    diff_ids = (rootfs.get("diff_ids") or []) if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list):
        raise BadImage(f"{what} is damaged: its configuration has no rootfs")
    for diff_id in diff_ids:
        if not isinstance(diff_id, str) or not _is_sha256(diff_id):
            raise BadImage(f"{what} is damaged: a bad layer digest in its configuration")
    if not isinstance(config.get("config") or {}, dict):
        raise BadImage(f"{what} is damaged: `config` in its configuration is no object")
    return config, diff_ids


def platform_of(config: dict[str, Any]) -> str:
    """`OS/ARCHITECTURE[/VARIANT]` of an image's configuration, empty when it does not say."""
    return _platform(config)


def _platform(data: dict[str, Any]) -> str:
    parts = [data.get("os"), data.get("architecture"), data.get("variant")]
    if not parts[0] or not parts[1]:
        return ""
    return "/".join(str(part) for part in parts if part)


def _choice(item: Any, what: str) -> Choice:
    descriptor = _descriptor(item, what)
    platform = item.get("platform")
    found = _platform(platform) if isinstance(platform, dict) else ""
    return Choice(descriptor, found or "unknown/unknown")


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadImage(f"{what} is damaged: not JSON") from None
    if not isinstance(document, dict):
        raise BadImage(f"{what} is damaged: not a JSON object")
    return document


def _list(document: dict[str, Any], key: str, what: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadImage(f"{what} is damaged: `{key}` is no list")
    return value


def _descriptor(item: Any, what: str) -> Descriptor:
    if not isinstance(item, dict):
        raise BadImage(f"{what} is damaged: a descriptor is no object")
    digest, size = item.get("digest"), item.get("size")
    media_type = item.get("mediaType", "")
    if not isinstance(digest, str) or not is_digest(digest) or not _is_sha256(digest):
        raise BadImage(f"{what} is damaged: a bad digest in its manifest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadImage(f"{what} is damaged: a bad size in its manifest")
    return Descriptor(digest, size, media_type if isinstance(media_type, str) else "")


def _is_sha256(digest: str) -> bool:
    return digest.startswith("sha256:") and is_digest(digest)
