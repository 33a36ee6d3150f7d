"""Other runtimes on the same bundle, and Docker with its own; None where one is not installed."""

import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import bundles
from .daemon import BIN, COMMAND_BOUND

Timed = Callable[[], float]


def runtime(name: str, bundle: Path, root: Path) -> Timed | None:
    """Times `NAME run` of the bundle."""
    program = shutil.which(name)
    if program is None:
        return None
    flags = ["--network", "none"] if name == "runsc" else []
    count = iter(range(1 << 20))

    def timed() -> float:
        command = [program, "--root", str(root / name), *flags, "run", "--bundle", str(bundle)]
        return bundles.timed([*command, f"{name}-{next(count)}"], COMMAND_BOUND)

    return timed


@contextmanager
def docker(root: Path) -> Iterator[Timed | None]:
    """Times `docker run --rm` with runc, on a dockerd of its own that has the same files."""
    if shutil.which("dockerd") is None:
        yield None
        return
    from tests.engines.docker import DOCKER, IMAGE, Docker

    with tempfile.TemporaryDirectory(prefix="hyper-bench.", dir="/var/tmp") as name:
        archive = Path(name) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, ".")
        engine = Docker(Path(name), BIN / "runv", archive)
        command = [DOCKER, "run", "--rm", "--runtime", "runc", IMAGE, "true"]
        try:

            def timed() -> float:
                begin = time.perf_counter()
                subprocess.run(
                    command,
                    env=engine.env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    check=True,
                    timeout=COMMAND_BOUND,
                )
                return time.perf_counter() - begin

            yield timed
        finally:
            engine.close()
