"""Manifests, platforms and configurations: what is chosen and what is refused."""

import json
from typing import Any

import pytest

from hypercontainer.errors import HyperError, NotFound
from hypercontainer.images.failures import BadImage
from hypercontainer.images.manifest import (
    DOCKER_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    Manifest,
    choose,
    read_config,
    read_manifest,
    same_platform,
)

A, B, C = (f"sha256:{digit * 64}" for digit in "abc")


def _index(*platforms: str, media_type: str = OCI_INDEX) -> bytes:
    items = []
    for number, platform in enumerate(platforms):
        names = zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
        digest = f"sha256:{number:064x}"
        items.append({"digest": digest, "size": 1, "platform": dict(names)})
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": items}).encode()


def _manifest(**changes: Any) -> bytes:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "config": {"mediaType": OCI_CONFIG, "digest": A, "size": 2},
        "layers": [{"digest": B, "size": 3}, {"digest": C, "size": 4}],
    }
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    ("platform", "position"),
    [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm/v6", 3), ("linux/arm", 2)],
)
@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_chooses_the_platform(platform: str, position: int, media_type: str) -> None:
    data = _index("linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6")
    found = read_manifest(data, "x")
    assert isinstance(found, list)
    assert choose(found, platform, "x").digest == f"sha256:{position:064x}"


def test_says_which_platforms_there_are() -> None:
    found = read_manifest(_index("linux/arm64/v8", "windows/amd64", "unknown/unknown"), "x:1")
    assert isinstance(found, list)
    with pytest.raises(NotFound) as caught:
        choose(found, "linux/amd64", "x:1")
    assert caught.value.message == (
        "no image for linux/amd64 in x:1: it offers linux/arm64/v8,windows/amd64"
    )


def test_an_unsaid_variant_is_the_usual_one() -> None:
    assert same_platform("linux/amd64/v1", "linux/amd64")
    assert not same_platform("linux/amd64/v3", "linux/amd64")
    assert not same_platform("linux/arm/v6", "linux/arm/v7")


def test_reads_a_manifest() -> None:
    found = read_manifest(_manifest(), "x")
    assert isinstance(found, Manifest)
    assert found.config.digest == A
    assert [layer.digest for layer in found.layers] == [B, C]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schemaVersion": 1}', "schema 1"),
        (b'{"schemaVersion": 2}', "not a container image"),
        (_manifest(mediaType="application/x"), "not a container image"),
        (_manifest(config={"mediaType": "application/vnd.cncf.helm.config.v1+json",
                           "digest": A, "size": 1}), "helm"),
        (_manifest(config={"digest": "sha256:../../etc", "size": 1}), "bad digest"),
        (_manifest(config={"digest": A, "size": -1}), "bad size"),
        (_manifest(config={"digest": A, "size": True}), "bad size"),
        (_manifest(layers=7), "no list"),
        (_manifest(layers=[7]), "descriptor"),
        (_manifest(layers=[{"digest": A, "size": 1}] * 501), "more than 500 layers"),
        (_manifest(layers=[{"digest": A, "size": 1, "mediaType": "a.tar+encrypted"}]), "encrypt"),
    ],
)  # fmt: skip
def test_refuses_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        read_manifest(data, "x")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"rootfs": []},
        {"rootfs": {"diff_ids": "x"}},
        {"rootfs": {"diff_ids": ["sha256:1"]}},
        {"rootfs": {"diff_ids": []}, "config": 3},
    ],
)
def test_refuses_a_bad_configuration(document: dict[str, Any]) -> None:
    with pytest.raises(HyperError, match="damaged"):
        read_config(json.dumps(document).encode(), "x")
