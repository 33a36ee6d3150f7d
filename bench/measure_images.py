"""Images apart from layer conversion: the tar rewriter alone, a container's new disk."""

import hashlib
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypercontainer.images.layer import rewrite
from hypercontainer.images.layerentries import Limits
from hypercontainer.images.tarstream import ChunkSource, Entry
from hypercontainer.images.upper import make_upper
from tests.tars import Item, make_tar

from .results import Result

ROUNDS = 5
DISK_BYTES = 10 << 30


class _Nowhere:
    """Takes a rewritten tar."""

    def begin(self, root: Entry) -> None:
        pass

    def write(self, data: bytes | memoryview) -> None:
        pass


def measure() -> Iterator[Result]:
    """Rewriting at 600 MB/s or more for large files; a new disk within 20 ms."""
    large = make_tar(Item(f"f{i}", random.Random(i).randbytes(4_000_000)) for i in range(25))
    small = make_tar(Item(f"d{i % 200}/f{i}", b"x" * 1000) for i in range(20_000))
    yield Result("tar rewriting, large files", "MB/s", _rewriting(large), at_least=600.0)
    yield Result(
        "tar rewriting, 20,000 small files", "MB/s", _rewriting(small), note="1000 bytes each"
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        place = Path(directory)
        make_upper(place / "first", DISK_BYTES, place)
        took = []
        for number in range(ROUNDS):
            begin = time.perf_counter()
            make_upper(place / f"disk{number}", DISK_BYTES, place)
            took.append(1e3 * (time.perf_counter() - begin))
        yield Result("new disk of 10 GiB", "ms", took, at_most=20.0)


def _rewriting(tar: bytes) -> list[float]:
    speeds = []
    for _ in range(ROUNDS):
        digest = hashlib.sha256()
        begin = time.perf_counter()
        rewrite(ChunkSource(_chunks(tar, digest)), _Nowhere(), "the layer", Limits())
        speeds.append(len(tar) / 1e6 / (time.perf_counter() - begin))
    return speeds


def _chunks(tar: bytes, digest: "hashlib._Hash") -> Iterator[bytes]:
    for at in range(0, len(tar), 1 << 20):
        chunk = tar[at : at + (1 << 20)]
        digest.update(chunk)
        yield chunk
