"""New names, restarts, pruning, and what lists show."""

import json

import pytest

from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_another_name(hyper: Hyper, hyperd: Hyperd) -> None:
    cid = hyper.text("run", "-d", "--name=one", "busybox", "sleep", "1000")
    hyper.text("create", "--name=other", "busybox", "true")
    assert hyper.text("rename", "one", "two") == ""
    assert hyper.text("exec", "two", "hostname") == "one"
    assert hyper("exec", "one", "true").returncode == 0, "the pod has its name still"
    done = hyper("rename", "two", "other")
    assert done.returncode == 1 and b"the name other is in use" in done.stderr
    done = hyper("rename", "two", "a/b")
    assert done.returncode == 1 and b"newName: 'a/b' is not a valid name" in done.stderr
    done = hyper("rename", "nonesuch", "x")
    assert done.returncode == 1 and b"no such container: nonesuch" in done.stderr
    hyperd.end()
    hyperd.start()
    (line,) = hyperd.client.list_containers()
    assert (line["Id"], line["Names"], line["Pod"]) == (cid, ["/two"], "one")
    hyper.text("rename", cid[:12], "one")
    assert hyper.text("rm", "-f", "one", "other") == "one\nother"
    hyperd.nothing_left()


def test_restart(hyper: Hyper, hyperd: Hyperd) -> None:
    script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"
    hyper.text("create", "--name=again", "busybox", "sh", "-c", script)
    assert hyper.text("restart", "again") == "again"
    until(lambda: hyper("logs", "again").stdout == b"up\n")
    assert hyper.text("restart", "-t", "30", "again") == "again"
    until(lambda: hyper("logs", "again").stdout == b"up\nup\n")
    assert hyperd.state_of("again")["ExitCode"] == 0
    hyper.text("rm", "-f", "again")


def test_lists_and_prune(hyper: Hyper, hyperd: Hyperd) -> None:
    assert hyper.text("list", "-aq") == ""
    for number in range(3):
        options = ("-l", "keep=yes") if number == 1 else ()
        hyper.text("create", f"--name=c{number}", *options, "busybox", "true")
    hyper.text("start", "c0")
    hyper.text("wait", "c0")
    hyper.text("run", "-d", "--name=runs", "busybox", "sh", "-c", "echo x > /f; sleep 1000")

    def names(*options: str) -> list[str]:
        listed = json.loads(hyper.text("list", "--format=json", *options))
        return [c["Names"][0][1:] for c in listed]

    assert names() == ["runs"]
    assert names("-a") == ["runs", "c2", "c1", "c0"]
    assert names("-n2") == ["runs", "c2"]
    assert names("-l") == ["runs"]
    assert hyper("list", "-n0").returncode == 125
    header, line = hyper.text("list", "-s").splitlines()
    assert header.endswith("SIZE") and "kB (virtual 1." in line

    refused = hyper("prune", input=b"n\n")
    assert refused.returncode == 0 and b"all stopped containers" in refused.stdout
    assert names("-a") == ["runs", "c2", "c1", "c0"]
    bad = hyper("prune", "-f", "--filter", "colour=red")
    assert (
        bad.returncode == 1 and b"filters: 'colour' is none of label, label!, until" in bad.stderr
    )
    assert hyper.text("prune", "-f", "--filter=until=1h") == "Total reclaimed space: 0B"
    out = hyper.text("prune", "-f", "--filter=label!=keep=yes")
    assert "Deleted Containers:" in out and not out.endswith(" 0B")
    assert names("-a") == ["runs", "c1"]
    assert hyper("prune", input=b"y\n").returncode == 0
    assert names("-a") == ["runs"]
    hyper.text("rm", "-f", "runs")
    hyperd.nothing_left()
