"""Tables, sizes, ages; the reference; start-up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypercontainer.cli import output
from hypercontainer.cli.images import familiar
from hypercontainer.cli.listing import ports_text
from hypercontainer.cli.reference import reference

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (4_261_550, "4.26MB"),
        (999_600, "1MB"),
        (124_000_000, "124MB"),
        (1_500_000_000, "1.5GB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert output.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (21 * 86400, "3 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


def test_ages_of_both_forms_of_time() -> None:
    now = time.time()
    assert output.age(now - 120) == "2 minutes ago"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 7200)) + ".123456789Z"
    assert output.age(stamp) == "2 hours ago"
    assert output.age(0) == output.age("") == output.age("0001-01-01T00:00:00Z") == "N/A"


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(
        ("ID", "LONG COLUMN", "LAST"), [("a", "b" * 14, "x y"), ("\x1b[31m", "", "")]
    )
    assert capsys.readouterr().out == (
        "ID        LONG COLUMN      LAST\n"
        "a         bbbbbbbbbbbbbb   x y\n"
        "?[31m                      \n"
    )


def test_short_forms() -> None:
    assert output.short_id("sha256:" + "ab" * 32) == "abababababab"
    assert output.short_id("sha256:abc", whole=True) == "sha256:abc"
    assert output.shorten("x" * 20, 20) == "x" * 20
    assert output.shorten("x" * 21, 20) == "x" * 19 + "…"
    assert familiar("docker.io/library/busybox") == "busybox"
    assert familiar("docker.io/a/b") == "a/b"
    assert familiar("127.0.0.1:5000/busybox") == "127.0.0.1:5000/busybox"


def test_the_reference_is_current() -> None:
    written = (ROOT / "docs/commands.md").read_text()
    assert written == reference(), "run python -m hypercontainer.cli.reference"


def test_run_imports_nothing_heavy() -> None:
    """`hyper run` and `hyper version` start without asyncio, rich, typing and the like."""
    code = (
        "import sys; from hypercontainer.cli import main, run, attached, images, information;"
        "import hypercontainer.client.api;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "rich", "typing", "dataclasses", "subprocess", "logging", "aiohttp"}
    assert not loaded & heavy


def test_the_client_is_exported_late() -> None:
    code = (
        "import sys, hypercontainer; assert 'http.client' not in sys.modules;"
        "from hypercontainer import Client; Client('unix:///x')"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, b""),
        ("<&- >&- 2>&-", 0, b""),
        (">/dev/full", 1, b"hyper: no space left on device\n"),
        ("| true", 0, b""),
    ],
)
def test_standard_files_that_do_not_work(redirection: str, code: int, said: bytes) -> None:
    hyper = Path(sys.executable).with_name("hyper")
    done = subprocess.run(
        ["sh", "-c", f"{hyper} help {redirection}"],
        capture_output=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)


def test_ports_in_a_row_are_shown_as_a_range() -> None:
    ports = [
        {"IP": "0.0.0.0", "PrivatePort": inner, "PublicPort": outer, "Type": kind}
        for inner, outer, kind in (
            (80, 8000, "tcp"),
            (80, 8085, "tcp"),
            (81, 8001, "tcp"),
            (53, 5353, "udp"),
        )
    ]
    shown = "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:8085->80/tcp, 0.0.0.0:5353->53/udp"
    assert ports_text(ports) == shown
    assert ports_text([]) == ""
