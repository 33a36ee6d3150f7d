"""The image that pods of the tests are made of."""

import io
import tarfile
from pathlib import Path

from tests.containerd.cri import IMAGE
from tests.images import make_image


def write_image(archive: Path, tree: Path) -> Path:
    """The files of `tree` as an OCI archive; it also stands for pods, and waits then."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(tree, arcname=".")
    config = {"Cmd": ["sleep", "2147483647"], "Env": ["PATH=/bin"]}
    make_image(archive, [layer.getvalue()], IMAGE, config=config)
    return archive
