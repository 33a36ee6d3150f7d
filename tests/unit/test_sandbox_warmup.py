"""The program of a warm-up, which runs on any x86-64 Linux."""

import platform
import subprocess
from pathlib import Path

import pytest

from hypercontainer.sandbox.warmup_program import program


@pytest.mark.skipif(platform.machine() != "x86_64", reason="it is a program for x86-64")
def test_it_writes_a_line_and_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(program())
    path.chmod(0o755)
    for _ in range(20):
        done = subprocess.run([path], capture_output=True, timeout=10, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")


def test_it_is_small() -> None:
    assert len(program()) <= 1 << 15
