"""runc's bats integration tests, with runv in the place of runc.

What they download or build in Go is replaced: the busybox and hello images by
Debian's static busybox, recvtty by a program of ours.
"""

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from .sources import environment

_TEST = re.compile(r'(?m)^@test "(.*)" \{$')
_HERE = Path(__file__).parent
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:99::/:/bin/sh\n"
_HELLO = r"""
#include <unistd.h>
int main(void) { return write(1, "Hello World\n", 12) != 12; }
"""


class RuncSuite:
    """The suite in an unpacked source tree."""

    name = "runc"
    on_terminal = False

    def __init__(self, tree: Path, runtime: str) -> None:
        self._tests = tree / "tests" / "integration"
        self._runtime = runtime
        self._work = tree / "work"
        self._prepare(tree)

    def _prepare(self, tree: Path) -> None:
        self._work.mkdir(exist_ok=True)
        link = self._work / "runc"
        link.unlink(missing_ok=True)
        # By this name, for the tests that want their own in help and version.
        link.symlink_to(self._runtime)
        recvtty = tree / "contrib" / "cmd" / "recvtty" / "recvtty"
        recvtty.write_text(f'#!/bin/sh\nexec {sys.executable} {_HERE / "recvtty.py"} "$@"\n')
        recvtty.chmod(0o755)
        _busybox_image(self._work)
        _hello_image(self._work)
        script = self._tests / "get-images.sh"
        script.write_text(
            "#!/bin/sh\n"
            f"echo BUSYBOX_IMAGE={self._work}/busybox.tar\n"
            f"echo HELLO_IMAGE={self._work}/hello.tar\n"
            f"echo DEBIAN_IMAGE={self._work}/busybox.tar\n"
        )
        script.chmod(0o755)

    def tests(self) -> Iterator[str]:
        """The names of all tests, FILE:NAME."""
        for path in sorted(self._tests.glob("*.bats")):
            for name in _TEST.findall(path.read_text()):
                yield f"{path.stem}: {name}"

    def command(self, test: str) -> tuple[list[str], dict[str, str], Path]:
        """How one test is run."""
        stem, _, name = test.partition(": ")
        pattern = re.sub(r"([][\\.^$*+?(){}|/])", r"\\\1", name)
        command = ["bats", "--tap", "--filter", f"^{pattern}$", f"{stem}.bats"]
        return command, environment(RUNC=str(self._work / "runc")), self._tests

    @staticmethod
    def verdict(output: str, code: int) -> str:
        """pass, fail or skip, from what it printed."""
        if re.search(r"(?m)^ok \d+ .*# skip", output):
            return "skip"
        return "pass" if code == 0 and re.search(r"(?m)^ok \d+", output) else "fail"


def _busybox_image(work: Path) -> None:
    root = work / "busybox"
    if root.exists():
        return
    for name in ("bin", "dev", "etc", "home", "root", "tmp", "usr/sbin", "var"):
        (root / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin" / "busybox")
    applets = subprocess.run(
        ["/bin/busybox", "--list"], capture_output=True, text=True, check=True, timeout=30
    )
    for applet in set(applets.stdout.split()) - {"busybox"}:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:99::/:/bin/sh\n"
    )
    (root / "etc" / "group").write_text("root:x:0:\nnobody:x:99:\n")
    _pack(root, work / "busybox.tar")


def _hello_image(work: Path) -> None:
    root = work / "hello"
    if root.exists():
        return
    root.mkdir()
    source = work / "hello.c"
    source.write_text(_HELLO)
    subprocess.run(
        ["gcc", "-static", "-O1", "-o", str(root / "hello"), str(source)], check=True, timeout=60
    )
    _pack(root, work / "hello.tar")


def _pack(root: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
