"""Images for tests, written as OCI archives."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypercontainer.images.busybox import write_oci_archive
from hypercontainer.images.manifest import digest_of


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
