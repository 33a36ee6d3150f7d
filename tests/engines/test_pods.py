"""Containers that share a VM, as the CRI engines and `--pid container:X` ask for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import leaks
from tests.e2e.rootfs import make_config, make_tree
from tests.e2e.runv_process import Runv, subreaper, until

BOOT_ID = "/proc/sys/kernel/random/boot_id"
CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runv]:
    directory = tmp_path_factory.mktemp("runv")
    found = Runv(directory, make_tree(tmp_path_factory.mktemp("rootfs") / "root"))
    with subreaper(), leaks.none(found.root):
        yield found


def create(runv: Runv, cid: str, change: dict[str, Any], paths: dict[str, str]) -> None:
    """Create and start a container with annotations, and namespaces by path."""
    config = make_config("sleep", "1000")
    config.update(change)
    kinds = ["pid", "ipc", "uts", "mount", "cgroup", "network"]
    config["linux"]["namespaces"] = [
        {"type": kind, **({"path": paths[kind]} if kind in paths else {})} for kind in kinds
    ]
    runv.quiet("create", "--bundle", runv.bundle(config=config), cid)
    runv("start", cid)


def said(runv: Runv, cid: str, *args: str) -> str:
    return runv("exec", cid, *args).stdout.decode()


@pytest.mark.parametrize("keys", [CRI, CRIO], ids=["containerd", "cri-o"])
def test_annotations_of_kubernetes(runv: Runv, keys: tuple[str, str]) -> None:
    kind, pod = keys
    create(runv, "pod", {"annotations": {kind: "sandbox", pod: "pod"}, "hostname": "p"}, {})
    pid = runv.state("pod")["pid"]
    paths = {name: f"/proc/{pid}/ns/{kind}" for name, kind in (("network", "net"), ("ipc", "ipc"))}
    for cid in ("one", "two"):
        create(runv, cid, {"annotations": {kind: "container", pod: "pod"}, "hostname": cid}, paths)
    boots = {said(runv, cid, "cat", BOOT_ID) for cid in ("pod", "one", "two")}
    assert len(boots) == 1
    assert said(runv, "one", "hostname") == "one\n"
    assert said(runv, "one", "ps").count("sleep 1000") == 1
    runv("kill", "one", "KILL")
    until(lambda: runv.state("one")["status"] == "stopped")
    assert said(runv, "two", "echo", "alive") == "alive\n"
    for cid in ("one", "two", "pod"):
        runv("delete", "--force", cid)


def test_the_pod_is_deleted_first(runv: Runv) -> None:
    create(runv, "pod", {}, {})
    path = f"/proc/{runv.state('pod')['pid']}/ns/pid"
    create(runv, "member", {}, {"pid": path})
    assert said(runv, "member", "ps").count("sleep 1000") == 2
    runv("delete", "--force", "pod")
    assert runv("state", "pod", check=False).returncode == 1
    runv("delete", "--force", "pod")
    until(lambda: runv("state", "member").returncode == 0)
    runv("delete", "--force", "member")


def test_a_pod_without_its_first_container_keeps_its_machine(runv: Runv) -> None:
    create(runv, "pod", {}, {})
    path = f"/proc/{runv.state('pod')['pid']}/ns/ipc"
    create(runv, "member", {}, {"ipc": path})
    boot = said(runv, "member", "cat", BOOT_ID)
    runv("delete", "--force", "pod")
    assert said(runv, "member", "cat", BOOT_ID) == boot
    runv("delete", "--force", "member")
