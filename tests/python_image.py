"""An image with Python, made of this host's Debian packages."""

import io
import re
import subprocess
import tarfile
from pathlib import Path

from tests.images import make_image

_PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
# What a small script needs; the rest of the library is left at home.
_WANTED = re.compile(
    r"/usr/(bin/python3\.11|lib/python3\.11/(?!lib-dynload|test|unittest|idlelib))"
)


def write_python_image(path: Path) -> str:
    """Write an OCI archive of `python:test`; its reference in skopeo's notation."""
    listed = subprocess.run(
        ["dpkg", "-L", *_PACKAGES], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split("\n")
    files = {Path(name) for name in listed if _WANTED.match(name)}
    files |= {Path(line) for line in _libraries(Path("/usr/bin/python3.11"))}
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
        for name in ("tmp", "out", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for file in sorted(files):
            if file.is_file():
                tar.add(file, str(file))
            compiled = file.parent / "__pycache__" / f"{file.stem}.cpython-311.pyc"
            if file.suffix == ".py" and compiled.is_file():
                tar.add(compiled, str(compiled))
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
        tar.addfile(link)
    config = {"Env": ["PATH=/usr/bin"], "Cmd": ["python3"]}
    return make_image(path, [layer.getvalue()], name="docker.io/library/python:test", config=config)


def _libraries(program: Path) -> list[str]:
    found = subprocess.run(
        ["ldd", str(program)], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return re.findall(r"(/lib\S+) \(", found)
