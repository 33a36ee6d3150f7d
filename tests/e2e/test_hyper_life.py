"""New names, restarts, pruning, and what lists show."""

import json

import pytest

from hypercontainer.errors import BadRequest, HyperError
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
    new = hyper.text("create", "--name=one", "busybox", "true")
    assert hyper.text("inspect", "-f", "{{.Id}}", "one") == new, "the old name was free"
    hyper.text("rm", "one")
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
    hyper.text("create", "--name=last", "busybox", "true")
    both = hyper("system", "prune", "-f", "--volumes", "--filter=until=1h")
    assert both.returncode == 125 and b"until is not for volumes" in both.stderr
    refused = hyper("system", "prune", "--volumes", input=b"n\n")
    assert b"all anonymous volumes that no container uses and all images without a name" in (
        refused.stdout
    )
    out = hyper.text("system", "prune", "-f", "--volumes")
    assert "Deleted Containers:" in out and "Total reclaimed space: " in out
    assert names("-a") == ["runs"]
    hyper.text("rm", "-f", "runs")
    hyper.text("image", "ls")
    out = hyper.text("system", "prune", "-af")
    assert "untagged: " in out and "busybox" in out
    assert hyperd.client.list_images() == []
    hyperd.load_image()
    hyperd.nothing_left()


def test_update(hyper: Hyper, hyperd: Hyperd) -> None:
    client = hyperd.client
    resources = {"memory": "64m", "cpus": 0.5, "pids": 20}
    hyperd.run("sleep", "1000", name="box", resources=resources)
    files = ("memory.max", "cpu.max", "pids.max", "cpu.weight")

    def limits() -> list[str]:
        group = "/vm/sys/fs/cgroup/containers/hyper-"
        cid = client.inspect_container("box")["Id"]
        paths = [f"{group}{cid}/{name}" for name in files]
        return hyper.text("exec", "-m", "box", "cat", *paths).splitlines()

    assert limits() == [str(64 << 20), "50000 100000", "20", "39"]
    options = ("--memory=32m", "--cpus=0.25", "--pids-limit=-1", "--restart=on-failure:3")
    assert hyper.text("update", *options, "box") == "box"
    assert limits() == [str(32 << 20), "25000 100000", "max", "39"]
    for wrong, says in (
        ({"Memory": 1 << 45}, "MiB that this machine has"),
        ({"Memory": 1000}, "update.memory: a container needs 4 MiB at least"),
        ({"NanoCpus": 5000 * 10**9}, "cpus: 5000 is more than the"),
        ({"CpusetCpus": "0"}, "update.cpusetcpus: a container may use all processors"),
        ({"MemorySwap": 1}, "a guest has no swap"),
        ({"Vm": {"memory": 64}}, "the VM of box runs, and can only get more memory and CPUs"),
        ({"RestartPolicy": {"Name": "sometimes"}}, "restartPolicy: 'sometimes' is none of"),
        ({"Colour": 1}, "update.Colour: unknown key"),
    ):
        with pytest.raises(HyperError) as caught:
            client.update_container("box", wrong)
        assert says in caught.value.message, caught.value.message
    assert hyper("update", "box").returncode == 125
    host = client.inspect_container("box")["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (32 << 20, 250_000_000, None)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}

    hyper.text("stop", "-t0", "box")
    with pytest.raises(HyperError, match="it is more than the 128 MiB that the VM has"):
        client.update_container("box", {"Memory": 1 << 30})
    hyper.text("update", "--vm-memory=160m", "--vm-cpus=2", "--cpus=1.5", "box")
    hyperd.end()
    hyperd.start()
    hyper.text("start", "box")
    assert limits() == [str(32 << 20), "150000 100000", "max", "39"]
    assert hyper.text("exec", "box", "nproc") == "2"
    assert hyper.text("port", "box") == ""
    refused = hyper("port", "box", "80")
    assert refused.returncode == 1 and b"no public port '80/tcp' published" in refused.stderr
    with pytest.raises(HyperError, match=r"containers\[0\].resources.memory: it is more than"):
        hyperd.create("true", resources={"memory": "1g"})
    hyper.text("rm", "-f", "box")


@pytest.mark.usefixtures("virtio_mem")
def test_update_of_a_vm_that_runs(hyper: Hyper, hyperd: Hyperd) -> None:
    """It gets the memory of which its containers may take more than it has, and keeps it."""
    client = hyperd.client
    hyperd.run("sleep", "1000", name="small", resources={"memory": "64m"})
    hyper.text("update", "-m", "200m", "small")
    total = int(hyper.text("exec", "small", "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
    assert total > 200 << 10
    assert client.inspect_container("small")["HostConfig"]["Memory"] == 200 << 20
    # And of which one that joins may take more.
    joins = {"image": "busybox", "name": "joins", "resources": {"memory": "400m"}}
    pod = client.inspect_container("small")["Pod"]
    client.create_container(pod, joins)
    total = int(hyper.text("exec", "small", "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
    assert total > 400 << 10
    for wrong in ({"memory": "800g"}, {"cpus": 60}):
        with pytest.raises(BadRequest, match=r"is more than the \d+"):
            client.create_container(pod, {**joins, "name": "big", "resources": wrong})
    hyper.text("rm", "-f", "small", "joins")


@pytest.mark.usefixtures("two_cpus")
def test_update_gives_a_vm_that_runs_another_cpu(hyper: Hyper, hyperd: Hyperd) -> None:
    """What goes on from it, as itself or as a copy, has it too."""
    cpu1 = ("taskset", "2", "nproc")
    hyperd.run("sleep", "1000", name="one")
    hyper.text("update", "--cpus=1.5", "one")
    assert hyper.text("exec", "one", "nproc") == "2"
    assert hyperd.client.inspect_container("one")["HostConfig"]["NanoCpus"] == 1_500_000_000
    hyper.text("fork", "--name", "two", "one")
    assert hyper.text("exec", "two", *cpu1) == "1"
    hyper.text("pause", "--to-disk", "one")
    hyper.text("unpause", "one")
    assert hyper.text("exec", "one", *cpu1) == "1"
    # It has it from the beginning the next time.
    hyper.text("stop", "-t0", "one")
    hyper.text("start", "one")
    assert hyper.text("exec", "one", "nproc") == "2"
    hyper.text("rm", "-f", "one", "two")
    hyperd.nothing_left()


@pytest.mark.usefixtures("two_cpus")
def test_one_that_joins_gets_its_vm_another_cpu(hyper: Hyper, hyperd: Hyperd) -> None:
    hyperd.run("sleep", "1000", name="first")
    joins = {"image": "busybox", "command": ["sleep", "1000"], "resources": {"cpus": 1.5}}
    pod = hyperd.client.inspect_container("first")["Pod"]
    hyperd.client.start_container(hyperd.client.create_container(pod, {"name": "joins", **joins}))
    assert hyper.text("exec", "first", "taskset", "2", "nproc") == "1"
    assert hyper.text("exec", "joins", "nproc") == "2"
    assert hyperd.client.pod_info(pod)["spec"]["vcpu"] == 2
    hyper.text("rm", "-f", "first", "joins")


def test_one_of_several_is_paused(hyper: Hyper, hyperd: Hyperd) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    one = {"image": "busybox", "command": ["sh", "-c", script]}
    spec = {"id": "two", "containers": [{"name": "a", **one}, {"name": "b", **one}]}
    hyperd.client.create_pod(spec)
    hyperd.client.start_pod("two")
    hyper.text("pause", "a")
    assert hyper.text("exec", "b", "echo", "on") == "on"
    refused = hyper("exec", "a", "true")
    assert (
        refused.returncode == 125 and b"container a is paused: unpause it first" in refused.stderr
    )
    assert hyper("pause", "a").returncode == 1
    hyperd.end()
    hyperd.start()
    assert [hyperd.state_of(n)["Paused"] for n in ("a", "b")] == [True, False]
    hyper.text("unpause", "a")
    assert hyper.text("exec", "a", "echo", "on") == "on"
    hyper.text("pause", "a")
    hyper.text("stop", "-t", "30", "a")
    assert hyperd.state_of("a")["ExitCode"] == 0, "it went on, to end in its own way"
    hyper.text("pause", "b")
    assert hyperd.vm_of("b")["Status"] == "paused", "where it is alone it is the VM"
    hyper.text("rm", "-f", "a", "b")
    hyperd.nothing_left()
