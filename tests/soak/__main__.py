"""Run the soak test: pods live and die at random while hyperd is killed now and then.

It happens in a network namespace of its own. Exit code 0: in the end there was exactly what the
living pods need, and without pods what was there before the first.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.hyperd_process import Hyperd

from . import account
from .killer import Killer
from .worker import Worker

_INSIDE = "HYPER_SOAK_INSIDE"
_NAMESPACE = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=540.0, help="how long pods come and go")
    parser.add_argument("--seed", type=int, default=None, help="as an earlier run printed it")
    parser.add_argument("--workers", type=int, default=3, help="that act at a time")
    options = parser.parse_args()
    if os.environ.get(_INSIDE) is None:
        command = [sys.executable, "-m", "tests.soak", *sys.argv[1:]]
        return subprocess.call([*_NAMESPACE, *command], env={**os.environ, _INSIDE: "1"})
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"soak: seed {seed}, {options.seconds:g} s, {options.workers} workers", flush=True)
    with tempfile.TemporaryDirectory(prefix="hyper-soak-", dir="/var/tmp") as name:
        hyperd = Hyperd(Path(name))
        hyperd.bridge = "hyper0"
        try:
            return _run(hyperd, options.seconds, seed, options.workers)
        finally:
            hyperd.close()


def _run(hyperd: Hyperd, seconds: float, seed: int, workers: int) -> int:
    hyperd.start()
    hyperd.load_image()
    account.warm_up(hyperd)
    before = account.everything(hyperd)
    deadline = time.monotonic() + seconds
    threads = [Worker(hyperd, number, seed, deadline) for number in range(workers)]
    killer = Killer(hyperd, random.Random(f"{seed} killer"))
    for thread in (*threads, killer):
        thread.start()
    for thread in threads:
        thread.join(timeout=seconds + 240)
        if thread.is_alive():
            thread.problems.append(f"{thread.name} hangs in {thread.doing}")
    killer.stop()
    problems = [problem for thread in threads for problem in thread.problems] + killer.problems
    lives = account.settled(hyperd)
    problems += account.compare(hyperd, lives)
    for thread in threads:
        thread.clear()
    problems += account.difference(hyperd, before)
    done: dict[str, int] = {}
    for thread in threads:
        for action, count in thread.done.items():
            done[action] = done.get(action, 0) + count
    summary = ", ".join(f"{count} {action}" for action, count in sorted(done.items()))
    print(f"soak: {summary}; hyperd killed {killer.kills} times; {len(lives)} pods lived on")
    for problem in problems:
        print(f"soak: FAILED: {problem}")
    if problems:
        print(hyperd.log.read_text(errors="replace")[-6000:], file=sys.stderr)
    print(f"soak: {'FAILED' if problems else 'passed'}, seed {seed}", flush=True)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
