"""crun's Python tests, with runv in the place of crun.

crun has flags that runc lacks; a wrapper turns those that the tests use into runc's.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .sources import environment

_LIST = re.compile(r'(?m)^\s+"([\w-]+)"\s*:\s*\w+')
_HERE = Path(__file__).parent


class CrunSuite:
    """The suite in an unpacked source tree."""

    name = "crun"
    on_terminal = True

    def __init__(self, tree: Path, runtime: str) -> None:
        self._tree = tree
        self._init = tree / "tests" / "init"
        self._wrapper = tree / "crun-wrapper"
        self._wrapper.write_text(
            f'#!/bin/sh\nexec {sys.executable} {_HERE / "crun_flags.py"} {runtime} "$@"\n'
        )
        self._wrapper.chmod(0o755)
        (tree / "config.h").write_text("#define HAVE_ERROR_H 1\n")
        subprocess.run(
            ["gcc", "-static", "-O1", f"-I{tree}", "-o", self._init, tree / "tests" / "init.c"],
            check=True,
            timeout=120,
            capture_output=True,
        )

    def tests(self) -> Iterator[str]:
        """The names of all tests, FILE: NAME."""
        for path in sorted((self._tree / "tests").glob("test_*.py")):
            text = path.read_text()
            for name in _LIST.findall(text[text.find("all_tests") :]):
                yield f"{path.stem}: {name}"

    def command(self, test: str) -> tuple[list[str], dict[str, str], Path]:
        """How one test is run."""
        stem, _, name = test.partition(": ")
        variables = environment(
            OCI_RUNTIME=str(self._wrapper),
            INIT=str(self._init),
            RUN_TESTS=name,
            PYTHONDONTWRITEBYTECODE="1",
            PYTHONPATH=str(_HERE / "modules"),
        )
        return [sys.executable, f"tests/{stem}.py"], variables, self._tree

    @staticmethod
    def verdict(output: str, code: int) -> str:
        """pass, fail or skip, from what it printed."""
        if re.search(r"(?m)^ok 1 .*#SKIP", output):
            return "skip"
        return "pass" if re.search(r"(?m)^ok 1 ", output) else "fail"
