"""Half a minute of the soak test; `make soak` is the long one."""

import os
import re
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd needs root"),
]


def test_pods_come_and_go_while_hyperd_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--seconds", "25"],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert re.search(r"hyperd killed [1-9]", done.stdout), done.stdout
