"""Layer conversion: from a decompressed layer stream to the disk image, on one core."""

import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.images.squash import Conversion

from .results import Result

SOURCE = Path("/usr")
LAYER_BYTES = 400_000_000
ROUNDS = 3


def measure() -> Iterator[Result]:
    """MB/s of the tar's size, digest included (bound: 150), and the image's share of it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        layer = Path(directory, "layer.tar")
        files = _make_layer(layer)
        with layer.open("rb") as file:
            diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        image = Path(directory, "layer.img")
        speeds = []
        for _ in range(ROUNDS):
            conversion = Conversion(lambda: layer.open("rb"), image, "the layer", diff_id)
            with _one_core():
                begin = time.perf_counter()
                converted = conversion.run()
                speeds.append(converted.tar_size / 1e6 / (time.perf_counter() - begin))
        note = f"{converted.tar_size / 1e6:.0f} MB of {SOURCE}, {files} files"
        yield Result("layer conversion on one core", "MB/s", speeds, at_least=150.0, note=note)
        yield Result("image against tar", "times", [converted.size / converted.tar_size])


def _make_layer(path: Path) -> int:
    """Write a tar of this machine's own files, about LAYER_BYTES large; how many there are."""
    count = size = 0
    with tarfile.open(path, "w") as tar:
        for directory, subdirectories, names in os.walk(SOURCE):
            subdirectories.sort()
            for name in sorted(names):
                file = Path(directory, name)
                if file.is_symlink() or not file.is_file():
                    continue
                tar.add(file, recursive=False)
                count += 1
                size += file.stat().st_size
                if size >= LAYER_BYTES:
                    return count
    return count


@contextmanager
def _one_core() -> Iterator[None]:
    """This process and the children that it starts meanwhile share one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
