"""The image `busybox:latest`, made from Debian's static busybox: no network, no root, same bytes.

`python -m hypercontainer.images.busybox FILE` writes it as an OCI archive.
"""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import HyperError, NotSupported
from .manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, digest_of
from .tarstream import BLOCK, DIRECTORY, FILE, SYMLINK, Entry
from .tarwrite import header

NAME = "docker.io/library/busybox:latest"
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
mail:x:8:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
"""
_FOLDERS = {
    **dict.fromkeys(("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin"), 0o755),
    **dict.fromkeys(("usr/sbin", "var", "var/spool", "var/spool/mail", "var/www"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
}


def build(target: Path, binary: Path | None = None, name: str = NAME) -> str:
    """Write the OCI archive to `target`; the image's id.

    Raises NotSupported if Debian's busybox-static is missing, HyperError if it is no static one.
    """
    program = binary or find()
    content = layer(program)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest_of(content)]},
        "history": [
            {"created": "1970-01-01T00:00:00Z", "created_by": "Debian's busybox-static"},
        ],
    }
    return write_oci_archive(target, name, config, [content])


def write_oci_archive(target: Path, name: str, config: dict[str, Any], layers: list[bytes]) -> str:
    """Write an image of plain layer tars as an OCI archive; its id."""
    config_data = _json(config)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, config_data),
            "layers": [_descriptor(OCI_LAYER, layer) for layer in layers],
        }
    )
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{**_descriptor(OCI_MANIFEST, manifest), "annotations": annotations}],
    }
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        **{
            f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob
            for blob in (config_data, manifest, *layers)
        },
    }
    target.write_bytes(_tar(_file(path, data) for path, data in files.items()))
    return digest_of(config_data)


def find() -> Path:
    """The host's busybox. Raises NotSupported."""
    for path in map(Path, ("/bin/busybox", "/usr/bin/busybox")):
        if path.exists():
            return path
    raise NotSupported("no program busybox: install it with `apt-get install busybox-static`")


def layer(program: Path, links: Mapping[str, str] | None = None) -> bytes:
    """The tar of a root file system of busybox, with more symlinks.

    Raises HyperError when it is no static one.
    """
    done = subprocess.run([program, "--list"], capture_output=True, text=True, timeout=30)
    data = program.read_bytes()
    if done.returncode != 0 or b"/ld-linux" in data[:4096] or "sh" not in done.stdout.split():
        raise HyperError(
            f"{program} can't be made an image: it is not the static one:"
            " run `apt-get install busybox-static`"
        )
    parts: list[tuple[Entry, bytes]] = [
        (_entry(path, DIRECTORY, mode), b"") for path, mode in sorted(_FOLDERS.items())
    ]
    parts.append(_file("bin/busybox", data, 0o755))
    applets = sorted(set(done.stdout.split()) - {"busybox"})
    for name, target in [*((f"bin/{a}", "busybox") for a in applets), *(links or {}).items()]:
        link = _entry(name, SYMLINK, 0o777)
        link.link = target.encode()
        parts.append((link, b""))
    parts.append(_file("etc/passwd", _PASSWD.encode()))
    parts.append(_file("etc/group", _GROUP.encode()))
    env = _entry("usr/bin/env", SYMLINK, 0o777)
    env.link = b"../../bin/busybox"
    parts.append((env, b""))
    return _tar(parts)


def _entry(path: str, kind: bytes, mode: int) -> Entry:
    return Entry(path.encode(), kind, mode, 0, 0, 0, 0, b"", 0, 0, {})


def _file(path: str, data: bytes, mode: int = 0o644) -> tuple[Entry, bytes]:
    entry = _entry(path, FILE, mode)
    entry.size = len(data)
    return entry, data


def _tar(parts: Iterable[tuple[Entry, bytes]]) -> bytes:
    out = io.BytesIO()
    for entry, data in parts:
        out.write(header(entry, entry.name, entry.link))
        out.write(data)
        out.write(bytes(-len(data) % BLOCK))
    out.write(bytes(2 * BLOCK))
    return out.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def main() -> None:
    """Write the archive that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m hypercontainer.images.busybox FILE")
    try:
        image_id = build(Path(sys.argv[1]))
    except (HyperError, OSError) as error:
        sys.exit(f"busybox: {error}")
    sys.stdout.write(f"{image_id}\n")


if __name__ == "__main__":
    main()
