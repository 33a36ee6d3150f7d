"""The layers that put the project into a lab machine, where it is on this host."""

import compileall
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypercontainer.errors import NotFound
from hypercontainer.guest import kernel

from . import layers
from .cache import Cache
from .errors import LabError
from .image import REPOSITORY

_ENVIRONMENT = REPOSITORY / ".venv"
# Of Python's own library and of packages: what no test in the lab imports.
_UNUSED = frozenset(
    ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "mypy", "mypyc", "ruff")
)


def python(cache: Cache) -> Path:
    """A layer of .venv and of its Python, if that is not Debian's; made when the cache lacks it.

    Raises LabError.
    """
    base = Path(sys.base_prefix).resolve()
    stamp = (_ENVIRONMENT / ".installed").read_bytes()
    key = hashlib.sha256(repr((stamp, str(base), sys.version, _UNUSED)).encode()).hexdigest()[:20]

    def make(directory: Path) -> None:
        paths = [(_ENVIRONMENT, _ENVIRONMENT)]
        if not base.is_relative_to("/usr") or base.is_relative_to("/usr/local"):
            library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
            paths += [(path, path) for path in _python_files(base, base / library)]
        layers.of_paths(directory / "python.squashfs", paths, _UNUSED)

    return cache.get("python", key, make) / "python.squashfs"


def _python_files(base: Path, library: Path) -> Iterator[Path]:
    """An interpreter and its library, without the packages installed beside it."""
    yield from (base / "bin").glob("python3*")
    yield from (base / "lib").glob("libpython3*")
    yield from (path for path in library.iterdir() if path.name != "site-packages")


def checkout(target: Path, flavours: Sequence[str]) -> None:
    """Make `target` a layer of the checkout's files as they are now, and of guest kernels.

    Raises LabError.
    """
    # An emulated CPU takes minutes to compile all that the tests import.
    for name in ("src", "tests"):
        compileall.compile_dir(str(REPOSITORY / name), quiet=2)
    layers.of_paths(target, [*_checkout_files(), *_guest_files(flavours)], frozenset())


def _checkout_files() -> Iterator[tuple[Path, Path]]:
    done = subprocess.run(
        "git -c safe.directory=* ls-files -z --cached --others --exclude-standard".split(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise LabError(f"git does not list the checkout: {done.stderr.strip()}")
    found = [REPOSITORY / name for name in done.stdout.split("\0") if name]
    found += [*REPOSITORY.glob("src/**/__pycache__"), *REPOSITORY.glob("tests/**/__pycache__")]
    found.append(REPOSITORY / "hyperstart" / "build")
    return ((path, path) for path in found if path.exists())


def _guest_files(flavours: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """The guest kernels and the initrd, at the default place."""
    place = Path(kernel.CACHE)
    found = {}
    for flavour in flavours:
        try:
            image = kernel.find(flavour=flavour)
        except NotFound as error:
            raise LabError(error.message) from None
        if image.kind == "distribution":
            found[place / "distribution"] = Path(image.kernel).resolve().parent
        else:
            name = Path(image.kernel).parent.name
            found[place / name / "vmlinux"] = Path(image.kernel).resolve()
            found[place / "hyper-initrd.img"] = Path(image.initrd).resolve()
    return ((source, target) for target, source in found.items())
