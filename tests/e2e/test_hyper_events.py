"""`hyper events`, and what hyperd tells of the life of a container."""

import json
import time

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)


def test_the_life_of_a_container(hyperd: Hyperd) -> None:
    hyper = Hyper(hyperd.socket)
    begun = f"{time.time():.6f}"
    kind = ("--filter", "type=container", "--format", "json")
    follower = hyper.start("events", "--since", begun, *kind)
    name = "told"
    hyper.text("create", "--name", name, "-l", "a=b", "busybox", "sleep", "60")
    assert follower.stdout is not None
    first = json.loads(follower.stdout.readline())
    assert (first["Type"], first["Action"]) == ("container", "create")
    assert first["Actor"]["Attributes"] == {
        "a": "b",
        "from": "image",
        "image": "busybox",
        "name": name,
        "pod": name,
    }
    hyper.text("start", name)
    hyper.text("pause", name)
    hyper.text("unpause", name)
    hyper.text("kill", name)
    hyper.text("wait", name)
    hyper.text("rm", name)
    rest = [json.loads(follower.stdout.readline()) for _ in range(6)]
    follower.terminate()
    follower.communicate(timeout=10)
    assert [e["Action"] for e in rest] == ["start", "pause", "unpause", "kill", "die", "destroy"]
    assert rest[3]["Actor"]["Attributes"]["signal"] == "9"
    assert rest[4]["Actor"]["Attributes"]["exitCode"] == "137"

    lines = hyper.text("events", "--since", begun, "--until", f"{time.time():.6f}").splitlines()
    words = [line.split()[1:3] for line in lines]
    assert words[:3] == [["pod", "create"], ["container", "create"], ["pod", "start"]]
    assert words[-2:] == [["container", "destroy"], ["pod", "destroy"]]
    chosen = hyper.text(
        *("events", "--since", begun, "--until", "0s", "--filter", "event=die"),
        *("--filter", f"container={name}"),
    )
    assert f"container die {first['id']} (" in chosen
    assert "exitCode=137" in chosen

    bad = hyper("events", "--filter", "colour=red")
    assert bad.returncode == 1
    assert b"filters: 'colour' is none of container, event," in bad.stderr
