"""Runs runc's and crun's own tests against runv and compares with what is expected.

    python -m tests.conformance.run [--suite runc|crun] [--only TEXT] [--jobs N] [--keep DIR]
                                    [--record] [--all]

`runc.json` and `crun.json` hold a word for each test (pass, fail, or n/a with
the reason) and a reason for each that does not pass. Tests that don't apply are
not run, except with --all. Exit status 1: a test that passed before fails.
"""

import argparse
import concurrent.futures
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from .crun_suite import CrunSuite
from .runc_suite import RuncSuite
from .sources import Unavailable, fetch, install_tools

_HERE = Path(__file__).parent
_TEST_BOUND = 90
_RUN_BOUND = 5400


class Suite(Protocol):
    """What the runner wants of a suite."""

    name: str
    on_terminal: bool

    def tests(self) -> Iterator[str]: ...
    def command(self, test: str) -> tuple[list[str], dict[str, str], Path]: ...
    def verdict(self, output: str, code: int) -> str: ...


def _take_terminal(slave: int) -> None:
    """A session with a terminal of its own, as the suites get where they are written."""
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def _copy(master: int, output: BinaryIO) -> None:
    """What comes out of the terminal, until nobody has it any more."""
    try:
        while data := os.read(master, 65536):
            output.write(data)
            output.flush()
    except (OSError, ValueError):
        return


def run_one(suite: Suite, test: str, logs: Path) -> tuple[str, str, float]:
    """Run a test in a session of its own, with a bound; returns its name, verdict and seconds."""
    command, variables, directory = suite.command(test)
    log = logs / (suite.name + "-" + "".join(c if c.isalnum() else "-" for c in test) + ".log")
    started = time.monotonic()
    master, slave = pty.openpty()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=variables,
            stdin=slave if suite.on_terminal else subprocess.DEVNULL,
            stdout=slave if suite.on_terminal else output,
            stderr=slave if suite.on_terminal else output,
            preexec_fn=lambda: _take_terminal(slave),
        )
        reading = threading.Thread(target=_copy, args=(master, output), daemon=True)
        reading.start()
        try:
            code = process.wait(_TEST_BOUND)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.write(b"\nno end in time\n")
            code = -9
        finally:
            os.close(slave)
            reading.join(5.0)
            os.close(master)
    text = log.read_text(errors="replace")
    verdict = "fail" if code == -9 else suite.verdict(text, code)
    return test, verdict, time.monotonic() - started


def expected_of(suite: str) -> dict[str, list[str]]:
    """The committed list."""
    path = _HERE / f"{suite}.json"
    found: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def run_suite(suite: Suite, args: argparse.Namespace, logs: Path) -> tuple[dict[str, int], bool]:
    """Run what applies; returns the figures and whether all is as expected."""
    expected = expected_of(suite.name)
    names = [t for t in suite.tests() if args.only in t]
    chosen = [t for t in names if args.all or expected.get(t, ["new"])[0] != "n/a"]
    results: dict[str, str] = {}
    deadline = time.monotonic() + _RUN_BOUND
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        pending = [pool.submit(run_one, suite, test, logs) for test in chosen]
        for future in concurrent.futures.as_completed(pending):
            test, verdict, seconds = future.result()
            results[test] = verdict
            was = expected.get(test, ["new"])[0]
            mark = "" if was == verdict else f"   (expected: {was})"
            print(f"{verdict:5} {seconds:5.1f} s  {suite.name}: {test}{mark}", flush=True)
            if time.monotonic() > deadline:
                pool.shutdown(cancel_futures=True)
                print(f"{suite.name}: the run takes too long, the rest is left out")
                break
    if args.record:
        record(suite.name, names, expected, results)
    regressions = [
        t for t, v in results.items() if v != "pass" and expected.get(t, [""])[0] == "pass"
    ]
    for test in regressions:
        print(f"REGRESSION {suite.name}: {test}")
    return figures(names, expected, results), not regressions


def record(
    suite: str, names: list[str], expected: dict[str, list[str]], results: dict[str, str]
) -> None:
    """Write what came out, with the reasons that are known."""
    merged = dict(expected)
    for test in names:
        was = expected.get(test, ["", ""])
        verdict = results.get(test, was[0])
        if verdict == "skip":
            merged[test] = ["n/a", was[1] if len(was) > 1 and was[1] else "the suite skips it here"]
        elif verdict == "pass":
            merged[test] = ["pass"]
        elif verdict:
            merged[test] = [verdict, was[1] if len(was) > 1 else ""]
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(merged[name])}" for name in sorted(merged)
    )
    (_HERE / f"{suite}.json").write_text("{\n" + lines + "\n}\n")


def figures(
    names: list[str], expected: dict[str, list[str]], results: dict[str, str]
) -> dict[str, int]:
    """How many passed, failed and do not apply."""
    verdicts = [results.get(t) or expected.get(t, ["fail"])[0] for t in names]
    return {
        "tests": len(names),
        "pass": verdicts.count("pass"),
        "fail": verdicts.count("fail"),
        "n/a": verdicts.count("n/a") + verdicts.count("skip"),
    }


def clean_up(work: Path) -> None:
    """End what tests that were killed left behind, and remove their groups on the host."""
    groups = list(Path("/sys/fs/cgroup").glob("*/runc-cgroups-integration-test"))
    for top in groups:
        for state in top.rglob("freezer.state"):
            state.write_text("THAWED")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"hypercontainer.sandbox.process" in words and str(work).encode() in b" ".join(words):
            os.kill(int(path.parent.name), signal.SIGKILL)
    time.sleep(1.0)
    for top in groups:
        for directory in sorted(top.rglob("*/"), reverse=True):
            _remove_group(directory)
        _remove_group(top)


def _remove_group(directory: Path) -> None:
    try:
        if directory.is_dir():
            directory.rmdir()
    except OSError as error:
        print(f"conformance: {directory}: {error.strerror}", file=sys.stderr)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="tests.conformance.run")
    parser.add_argument("--suite", choices=("runc", "crun"), action="append")
    parser.add_argument("--only", default="", help="tests whose name has this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", help="directory for sources and logs, reused when it is there")
    parser.add_argument("--runtime", default=str(Path(sys.executable).with_name("runv")))
    parser.add_argument("--record", action="store_true", help="write the results to the lists")
    parser.add_argument("--all", action="store_true", help="also what does not apply")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("conformance: root is needed", file=sys.stderr)
        return 2
    work = Path(args.keep or tempfile.mkdtemp(prefix="runv-conformance-"))
    work.mkdir(parents=True, exist_ok=True)
    logs = work / "logs"
    for directory in (logs, work / "tmp"):
        directory.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(work / "tmp")
    good = True
    try:
        install_tools()
        wanted = args.suite or ["runc", "crun"]
        trees = fetch(work, *wanted)
        suites: dict[str, type[RuncSuite] | type[CrunSuite]] = {
            "runc": RuncSuite,
            "crun": CrunSuite,
        }
        for name in wanted:
            found, as_expected = run_suite(suites[name](trees[name], args.runtime), args, logs)
            good &= as_expected
            applies = found["pass"] + found["fail"]
            share = 100 * found["pass"] / applies if applies else 0.0
            print(
                f"{name}: {found['tests']} tests, {found['n/a']} do not apply;"
                f" of the other {applies} {found['pass']} pass ({share:.0f} %)"
            )
    except Unavailable as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    finally:
        clean_up(work)
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
