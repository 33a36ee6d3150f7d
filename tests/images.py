"""Images for tests, written as OCI archives."""

import json
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypercontainer.images.busybox import write_oci_archive
from hypercontainer.images.manifest import DOCKER_LIST, digest_of


def make_image(
    target: Path, layers: Sequence[bytes], name: str = "docker.io/library/test:latest", **more: Any
) -> str:
    """Write an image of these layer tars, in skopeo's notation; `more` goes into its config."""
    config = {
        "os": "linux",
        "architecture": "amd64",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        **more,
    }
    write_oci_archive(target, name, config, list(layers))
    return f"oci-archive:{target}"


def raw_manifest(reference: str) -> bytes:
    """The manifest that a registry on loopback has, as it is."""
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def manifest_of(reference: str) -> dict[str, Any]:
    """The manifest that a registry on loopback has."""
    manifest: dict[str, Any] = json.loads(raw_manifest(reference))
    return manifest


def list_entry(reference: str, architecture: str) -> dict[str, Any]:
    """What a manifest list says of an image that a registry on loopback has."""
    data = raw_manifest(reference)
    return {
        "mediaType": json.loads(data)["mediaType"],
        "digest": digest_of(data),
        "size": len(data),
        "platform": {"os": "linux", "architecture": architecture},
    }


def put_list(host: str, path: str, tag: str, entries: Sequence[dict[str, Any]]) -> str:
    """Push a manifest list to a registry on loopback; what to pull it by."""
    document = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": list(entries)}
    put_manifest(host, path, tag, DOCKER_LIST, document)
    return f"{host}/{path}:{tag}"


def put_manifest(host: str, path: str, tag: str, kind: str, document: dict[str, Any]) -> None:
    """Push a manifest made by hand to a registry on loopback."""
    request = urllib.request.Request(
        f"http://{host}/v2/{path}/manifests/{tag}",
        data=json.dumps(document).encode(),
        headers={"Content-Type": kind},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 201
