"""`hyper pod`, labels, filters and formats of lists."""

import json
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(180)

_POD = {
    "id": "shop",
    "labels": {"team": "blue"},
    "containers": [
        {"name": "web", "image": "busybox", "command": ["sleep", "1000"], "stopTimeout": 0},
        {"name": "db", "image": "busybox", "command": ["sleep", "1000"], "stopTimeout": 0},
    ],
}


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_pods_as_a_whole(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(_POD))
    hyper.text("create", "-p", str(file))

    def listed() -> list[str]:
        return hyper.text("pod", "ls").splitlines()[1].split()

    def states(*filters: str) -> list[str]:
        options = [f"--filter={f}" for f in filters]
        shown = hyper.text("list", "-a", *options, "--format={{.Names}}={{.State}}")
        return sorted(shown.splitlines())

    assert listed() == ["shop", "Pending", "0/2"]
    assert hyper.text("pod", "start", "shop") == "shop"
    assert listed() == ["shop", "Running", "2/2"]
    assert states("status=running", "pod=shop") == ["db=running", "web=running"]
    hyper.text("pod", "pause", "shop")
    assert states("status=paused", "name=^web$") == ["web=paused"]
    assert hyper.text("pod", "ls", "--format=json").count('"State": "paused"') == 1
    hyper.text("pod", "unpause", "shop")
    assert len(hyper.text("pod", "stats", "--no-stream", "shop").splitlines()) == 3
    assert json.loads(hyper.text("pod", "inspect", "shop"))[0]["podID"] == "shop"
    assert hyper.text("pod", "kill", "shop") == "shop"
    assert hyper.text("wait", "web", "db") == "137\n137"
    assert states("exited=137", "ancestor=busybox") == ["db=exited", "web=exited"]
    hyper.text("pod", "start", "shop")
    assert b"stop it first" in hyper("pod", "rm", "shop").stderr
    for word in ("stop", "rm", "kill", "start", "restart"):
        done = hyper(word, "shop")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"shop is a pod of 2 containers: name one of them (web, db)" in done.stderr
    assert listed() == ["shop", "Running", "2/2"]
    assert hyper.text("pod", "stop", "shop") == "shop"
    assert hyper.text("pod", "rm", "shop") == "shop"
    assert hyper.text("pod", "ls", "-q") == ""
    missing = hyper("pod", "start", "shop", "none")
    assert missing.returncode == 1
    assert missing.stderr.decode().splitlines() == [
        "hyper: no such pod: shop",
        "hyper: no such pod: none",
    ]
    hyperd.nothing_left()


def test_labels_of_pods(hyper: Hyper, hyperd: Hyperd) -> None:
    hyperd.client.create_pod(_POD)
    hyper.text("pod", "label", "shop", "tier=front", "team=blue")
    assert hyper.text("list", "-aq", "--filter=label=tier=front").count("\n") == 1
    assert hyper.text("list", "-aq", "--filter=label=tier=back") == ""
    refused = hyper("pod", "label", "shop", "team=red")
    assert refused.returncode == 1
    assert b"pod shop has the label team already" in refused.stderr
    hyper.text("pod", "label", "--override", "shop", "team=red")
    hyperd.end()
    hyperd.start()
    shown = hyper.text("list", "-a", "--filter=name=web", '--format={{.Label "team"}} {{.Labels}}')
    assert shown == "red from=image,team=red,tier=front"
    hyper.text("pod", "rm", "shop")


def test_formats_and_filters(hyper: Hyper, hyperd: Hyperd) -> None:
    for name in ("one", "two"):
        hyper.text("create", f"--name={name}", "busybox", "true")
    assert hyper.text("list", "-f", "status=created", r"--format=table {{.Names}}\t{{.State}}") == (
        "NAMES     STATE\ntwo       created\none       created"
    )
    lines = hyper.text("list", "-a", "--format={{json .}}").splitlines()
    assert [json.loads(line)["Names"] for line in lines] == ["two", "one"]
    assert hyper.text("inspect", "-f", "{{.State.Status}} {{.Config.Cmd}}", "one") == (
        'created ["true"]'
    )
    image = hyper.text("images", "--format={{.Repository}}:{{.Tag}} {{.ID}}")
    assert image.startswith("busybox:latest ") and len(image.split()[1]) == 12
    for arguments, why in (
        (["list", "--format={{range .}}"], b"{{range .}} is not supported"),
        (["list", "--format={{.Nam}}"], b"no field .Nam: there are ID, Names"),
        (["images", "--format=yaml"], b"has no field"),
        (["list", "--filter=colour=red"], b"filters: 'colour' is none of"),
        (["list", "--filter=name"], b"--filter: 'name' is not KEY=VALUE"),
        (["list", "--filter=name=(a+)+"], b"is not a simple pattern"),
    ):
        done = hyper(*arguments)
        assert done.returncode in (1, 125) and why in done.stderr, done
    hyper.text("rm", "one", "two")
    hyperd.nothing_left()


def test_what_a_container_may_take_and_do(hyper: Hyper, hyperd: Hyperd) -> None:
    options = (
        *("--cpus=1.5", "--cpu-shares=512", "--pids-limit=50", "--memory-reservation=16m"),
        *("--ulimit=nofile=100:200", "--sysctl=net.core.somaxconn=77", "--shm-size=1m"),
        *("--cap-drop=ALL", "--cap-add=SYS_TIME", "--security-opt=no-new-privileges"),
        *("-u", "1000:1000", "--group-add=7"),
    )
    script = (
        "nproc; cd /sys/fs/cgroup; cat cpu.max pids.max; ulimit -Sn; ulimit -Hn;"
        " cat /proc/sys/net/core/somaxconn; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status;"
        " df -k /dev/shm | tail -1; id -G"
    )
    hyper.text("run", "-d", "--name=limited", *options, "busybox", "sleep", "1000")
    lines = [
        " ".join(x.split()) for x in hyper.text("exec", "limited", "sh", "-c", script).split("\n")
    ]
    assert lines[:6] == ["2", "150000 100000", "50", "100", "200", "77"]
    assert lines[6:8] == [f"CapBnd: {1 << 25:016x}", "NoNewPrivs: 1"]
    assert lines[8].split()[1] == "1024"
    assert lines[9] == "1000 7"
    host = hyperd.client.inspect_container("limited")["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"], host["ShmSize"]) == (["SYS_TIME"], ["ALL"], 1 << 20)
    hyper.text("rm", "-f", "limited")
    for arguments, why in (
        (["--init"], "--init: not supported: use an image"),
        (["--privileged"], "--privileged: not supported: --cap-add ALL"),
        (["--cap-add=NONE"], "capAdd: 'NONE' is not a capability"),
        (["--security-opt=seccomp=x.json"], "--security-opt: 'seccomp=x.json' is not supported"),
        (["--ulimit=nofile"], "--ulimit: 'nofile' is not NAME=SOFT[:HARD]"),
        (["--cpu=1", "--cpus=1.5"], "resources.cpus: it is more than the 1 processors"),
    ):
        done = hyper("run", *arguments, "busybox", "true")
        assert done.returncode == 125 and why in done.stderr.decode(), done
    hyperd.nothing_left()


def test_the_example_of_the_documentation(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "pod-spec.md").read_text()
    file = tmp_path / "shop.yaml"
    file.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    hyper.text("run", "-p", str(file))
    wait_until(lambda: bool(hyperd.output_of("shop-front")), "its output")
    assert hyperd.output_of("shop-front") == "hello from the specification\n"
    assert hyper.text("list", "-q", "--filter=label=team=blue").count("\n") == 0
    hyper.text("pod", "rm", "-f", "shop")
    hyper.text("volume", "rm", "shop-page")
    hyperd.nothing_left()
