"""Memory of a forked Python that is shared again, tried in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_MAKE = ("make", "-s", "-C", str(Path(__file__).parents[2] / "giveback"))
_LIBRARY = "hyper-giveback-python.so"
_BOUND = 120

# It prints a line of JSON for each thing that is seen.
_PROGRAM = """
import json, os, re, sys, threading
from hypercontainer.sandbox import heap

def own():
    text = open("/proc/self/smaps_rollup").read()
    return 1024 * int(re.search(r"Private_Dirty: +(\\d+)", text)[1])

class Thing:
    def __init__(self, number):
        self.name = f"thing {number}"
        self.numbers = (number, float(number))

def total(things):
    return sum(len(thing.name) + thing.numbers[0] for thing in things)

things = [Thing(number) for number in range(50_000)]
wanted = total(things)
grown = list(range(40_000))  # a mapping of its own, which grows later
heap.share()
sys.stdout.flush()
if os.fork() == 0:
    seen = {"before": own()}
    held = [(thing, thing.name, thing.numbers) for thing in things]
    seen["held"] = own()
    del held
    seen["written"] = own()
    seen["given"] = heap.give_back()
    seen["after"] = own()
    # Objects that are in use are given back as well; and what is new or was changed stays.
    names = [thing.name for thing in things]
    things[0].name = "changed"
    new = [Thing(number) for number in range(1000)]
    grown += range(1_000_000)
    seen["again"] = heap.give_back()
    seen["same"] = names[1:] == [f"thing {number}" for number in range(1, 50_000)]
    seen["changed"] = things[0].name
    seen["total"] = total(things[1:]) + len("thing 0") == wanted
    seen["new"] = total(new) == total([Thing(number) for number in range(1000)])
    seen["grown"] = sum(grown) == sum(range(40_000)) + sum(range(1_000_000))
    del names, new, grown, things
    maps = [line.split() for line in open("/proc/self/maps") if "memfd:hyper-python" in line]
    seen["private"] = bool(maps) and all(how.endswith("p") for _, how, *_ in maps)
    span = "-".join(bound.lstrip("0") for bound in maps[0][0].split("-"))
    try:
        file = os.open(f"/proc/self/map_files/{span}", os.O_RDWR)
    except PermissionError:  # not in every container
        seen["sealed"] = True
    else:
        try:
            seen["sealed"] = not os.pwrite(file, b"x", 0)
        except PermissionError:
            seen["sealed"] = True
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    seen["with another thread"] = heap.give_back()
    stop.set()
    thread.join()
    print(json.dumps(seen), flush=True)
    os._exit(0)
assert os.wait()[1] == 0
assert total(things) == wanted
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cache")
    subprocess.run(
        [*_MAKE, f"CACHE={directory}", f"{directory}/{_LIBRARY}"], check=True, timeout=_BOUND
    )
    return directory


def _run(program: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"HYPER_CACHE": str(cache), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=_BOUND,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="it is done with CPython 3.11 only")
def test_what_was_only_read_is_shared_again_and_what_was_written_stays(cache: Path) -> None:
    seen = json.loads(_run(_PROGRAM, cache))
    assert seen["held"] > seen["before"] + (5 << 20)
    assert seen["given"] > (seen["written"] - seen["before"]) / 2
    assert seen["after"] < seen["written"] - seen["given"] + (1 << 20)
    assert seen["again"] > 0
    assert seen["changed"] == "changed"
    assert seen["with another thread"] == 0
    assert [seen[name] for name in ("same", "total", "new", "grown", "private", "sealed")] == 6 * [
        True
    ]


def test_without_the_library_there_is_nothing_to_give_back(tmp_path: Path) -> None:
    program = "from hypercontainer.sandbox import heap; heap.share(); print(heap.give_back())"
    assert _run(program, tmp_path) == "0\n"
