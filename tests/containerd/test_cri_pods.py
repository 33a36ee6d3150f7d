"""Pods of Kubernetes: containerd's CRI plugin, asked as kubelet asks it."""

import os
import re
import time

import grpc
import pytest

from tests.containerd.cri import CRI, Container, Pod
from tests.engines.commands import until

BOOT_ID = "/proc/sys/kernel/random/boot_id"
MIB = 1 << 20


def _serve(pod: Pod, text: str, port: int = 80, address: str = "0.0.0.0") -> Container:
    """A container with a web server whose only page is `text`."""
    page = f"mkdir -p /www; echo {text} > /www/index.html"
    server = f"exec httpd -f -h /www -p {address}:{port}"
    return pod.run("web", "sh", "-c", f"{page}; {server}")


def _fetch(container: Container, url: str) -> str:
    return container.said(
        "sh", "-c", f"for i in 1 2 3 4 5; do wget -q -O - {url} && exit; sleep 1; done"
    )


def test_a_pod_is_a_machine(cri: CRI) -> None:
    pod = cri.pod()
    web = _serve(pod, "hello", address="127.0.0.1")
    other = pod.run("other", "sleep", "1000")
    assert pod.status().runtime_handler == "runv"
    assert _fetch(other, "http://127.0.0.1/") == "hello\n"
    assert web.said("cat", BOOT_ID) == other.said("cat", BOOT_ID)
    assert other.said("hostname") == f"{pod.name}\n"
    with open("/proc/sys/kernel/osrelease") as file:
        assert other.said("uname", "-r") != file.read()
    second = cri.pod().run("other", "sleep", "1000")
    assert second.said("cat", BOOT_ID) != other.said("cat", BOOT_ID)
    pod.remove()
    assert second.said("echo", "alive") == "alive\n"


def test_the_network_of_pods(cri: CRI) -> None:
    pod, client = cri.pod(), cri.pod().run("client", "sleep", "1000")
    _serve(pod, "there")
    assert re.fullmatch(r"10\.213\.\d+\.\d+", pod.address)
    assert _fetch(client, f"http://{pod.address}/") == "there\n"
    # As kubelet does for probes: from the host.
    assert cri.namespace.fetch(f"http://{pod.address}/") == "there\n"


def test_a_port_of_the_host(cri: CRI) -> None:
    pod = cri.pod(port_mappings=[{"container_port": 80, "host_port": 8080}])
    _serve(pod, "mapped")
    gateway = f"{pod.address.rsplit('.', 2)[0]}.0.1"
    client = cri.pod().run("client", "sleep", "1000")
    assert _fetch(client, f"http://{gateway}:8080/") == "mapped\n"


def test_shared_memory(cri: CRI) -> None:
    pod = cri.pod()
    writer, reader = pod.run("writer", "sleep", "1000"), pod.run("reader", "sleep", "1000")
    writer.said("sh", "-c", "echo shared > /dev/shm/x")
    assert reader.said("cat", "/dev/shm/x") == "shared\n"


def test_process_namespaces(cri: CRI) -> None:
    """`shareProcessNamespace` of a pod; without it each container has its own."""
    apart = cri.pod()
    one = apart.run("one", "sleep", "1001")
    apart.run("two", "sleep", "1002")
    assert "sleep 1002" not in one.said("ps")
    options = {"namespace_options": {"pid": 0}}
    together = cri.pod(linux={"security_context": options})
    linux = {"security_context": options}
    one = together.run("one", "sleep", "1001", linux=linux)
    together.run("two", "sleep", "1002", linux=linux)
    listed = one.said("ps")
    assert "sleep 1001" in listed
    assert "sleep 1002" in listed


def test_configuration_of_a_container(cri: CRI) -> None:
    pod = cri.pod(
        dns_config={"servers": ["10.96.0.10"], "searches": ["x.svc.cluster.local"]},
        linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "70"}},
    )
    data = cri.directory / "data"
    data.mkdir(exist_ok=True)
    (data / "file").write_text("of the host")
    context = {
        "run_as_user": {"value": 1000},
        "run_as_group": {"value": 1000},
        "supplemental_groups": [2000],
        "readonly_rootfs": True,
        "no_new_privs": True,
        "capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]},
        "seccomp": {"profile_type": 0},
        "masked_paths": ["/proc/kcore"],
        "readonly_paths": ["/proc/sys"],
    }
    box = pod.run(
        "box",
        *("sleep", "1000"),
        envs=[{"key": "A", "value": "b c"}],
        working_dir="/tmp",
        mounts=[{"container_path": "/data", "host_path": str(data), "readonly": True}],
        linux={"security_context": context},
    )
    assert box.said("id", "-u") == "1000\n"
    assert set(box.said("id", "-G").split()) == {"1000", "2000"}
    assert box.said("sh", "-c", "echo $A; pwd") == "b c\n/tmp\n"
    assert box.said("cat", "/data/file") == "of the host"
    assert box.exec("touch", "/data/other").exit_code != 0
    assert box.exec("touch", "/x").exit_code != 0
    resolver = box.said("cat", "/etc/resolv.conf")
    assert "nameserver 10.96.0.10" in resolver
    assert "search x.svc.cluster.local" in resolver
    assert box.said("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "70\n"
    status = box.said("cat", "/proc/self/status")
    assert re.search(r"NoNewPrivs:\t1\nSeccomp:\t2", status)
    assert re.search(r"CapBnd:\t0+400\n", status)


def test_limits_and_overhead(cri: CRI) -> None:
    """The machine has what the pod's containers may use together, and the guest's own part."""
    limits = {"cpu_period": 100000, "cpu_quota": 150000, "memory_limit_in_bytes": 384 * MIB}
    overhead = {"memory_limit_in_bytes": 160 * MIB, "cpu_quota": 25000, "cpu_period": 100000}
    pod = cri.pod(linux={"resources": limits, "overhead": overhead})
    own = {"cpu_period": 100000, "cpu_quota": 50000, "memory_limit_in_bytes": 256 * MIB}
    box = pod.run("box", "sleep", "1000", linux={"resources": own})
    total = int(box.said("sh", "-c", "grep MemTotal /proc/meminfo | tr -dc 0-9")) // 1024
    assert 384 <= total < 384 + 160, total
    assert box.said("nproc") == "2\n"
    # More than a machine of the default size could hold.
    box.said("dd", "if=/dev/zero", "of=/dev/null", "bs=150M", "count=1")
    update = {"resources": {"memory_limit_in_bytes": 200 * MIB}}
    cri.call("UpdateContainerResources", container_id=box.id, linux=update["resources"])
    group = box.said("sh", "-c", "cat /sys/fs/cgroup/memory.max")
    assert group == f"{200 * MIB}\n"


def test_a_container_that_needs_more_than_the_pod_has(cri: CRI) -> None:
    """It joins, or its limits are raised: the machine gets what is missing."""
    limits = {"cpu_period": 100000, "cpu_quota": 50000, "memory_limit_in_bytes": 48 * MIB}
    pod = cri.pod(linux={"resources": limits})
    small = pod.run("small", "sleep", "1000", linux={"resources": limits})
    assert small.said("nproc") == "1\n"
    more = {"cpu_period": 100000, "cpu_quota": 100000, "memory_limit_in_bytes": 300 * MIB}
    big = pod.run("big", "sleep", "1000", linux={"resources": more})
    assert big.said("nproc") == f"{min(2, os.cpu_count() or 1)}\n"
    for size in (250, 450):
        big.said("dd", "if=/dev/zero", "of=/dev/null", f"bs={size}M", "count=1")
        update = {"memory_limit_in_bytes": 500 * MIB}
        cri.call("UpdateContainerResources", container_id=big.id, linux=update)
    assert small.said("echo", "on") == "on\n"


def test_statistics(cri: CRI) -> None:
    pod = cri.pod()
    # What a ready VM had before the pod took it stays counted with whom kept it.
    fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40"
    box = pod.run("box", "sh", "-c", f"{fill}; while :; do :; done")

    def used() -> bool:
        stats = cri.call("ContainerStats", container_id=box.id).stats
        return bool(stats.cpu.usage_core_nano_seconds.value > 0)

    until(used, "CPU time of a busy container")
    stats = cri.call("ContainerStats", container_id=box.id).stats
    assert stats.memory.working_set_bytes.value > 0
    assert stats.attributes.metadata.name == "box"
    listed = cri.call("ListContainerStats").stats
    assert [item.attributes.id for item in listed] == [box.id]

    def whole() -> bool:
        linux = cri.call("PodSandboxStats", pod_sandbox_id=pod.id).stats.linux
        memory, cpu = linux.memory.working_set_bytes.value, linux.cpu.usage_nano_cores.value
        return bool(memory > 40 * MIB and cpu > 0)

    until(whole, "statistics of a pod")


def test_memory_that_runs_out(cri: CRI) -> None:
    """Known troubles: kubelet looks for the word OOMKilled."""
    pod = cri.pod(linux={"resources": {"memory_limit_in_bytes": 128 * MIB}})
    bystander = pod.run("bystander", "sleep", "1000")
    limit = {"resources": {"memory_limit_in_bytes": 32 * MIB}}
    greedy = pod.run("greedy", "sh", "-c", "sleep 1; exec tail -c 100000000 /dev/zero", linux=limit)
    status = greedy.wait()
    assert status.exit_code == 137
    until(lambda: greedy.status().reason == "OOMKilled", "the reason OOMKilled", 10)
    assert bystander.said("echo", "alive") == "alive\n"


def test_the_end_of_containers(cri: CRI) -> None:
    pod = cri.pod()
    quick = pod.run("quick", "sh", "-c", "exit 7")
    status = quick.wait()
    assert (status.exit_code, status.reason) == (7, "Error")
    polite = pod.run(
        "polite", "sh", "-c", "trap 'sleep 1; exit 9' TERM; while :; do sleep 0.1; done"
    )
    time.sleep(1)
    polite.stop(30)
    assert polite.status().exit_code == 9
    deaf = pod.run("deaf", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    time.sleep(1)
    deaf.stop(1)
    assert deaf.status().exit_code == 137
    quick.remove()
    with pytest.raises(grpc.RpcError):
        quick.status()
    # A container of a name that was removed may come back, as kubelet restarts them.
    again = pod.run("quick", "sleep", "1000")
    assert again.said("echo", "again") == "again\n"
    missing = pod.container("missing", "nosuch")
    with pytest.raises(grpc.RpcError, match="executable file not found"):
        missing.start()


def test_the_end_of_a_pod(cri: CRI) -> None:
    pod = cri.pod()
    box = pod.run("box", "sleep", "1000")
    pod.stop()
    pod.stop()
    assert box.state() == "CONTAINER_EXITED"
    assert cri.call.word("PodSandboxState", pod.status().state) == "SANDBOX_NOTREADY"
    pod.remove()
    cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)
    with pytest.raises(grpc.RpcError):
        pod.status()
