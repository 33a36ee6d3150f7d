"""Pods by runc's shim, which calls `runv` as it calls runc: without a shim of our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerd.cri import CRI
from tests.containerd.cri_image import write_image
from tests.engines import leftovers
from tests.engines.commands import until
from tests.engines.needs import need


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory, runv: Path, tree: Path) -> Iterator[CRI]:
    need("containerd", "ctr", "containerd-shim-runc-v2", "ip", "iptables", "nft")
    directory = tmp_path_factory.mktemp("cri")
    engine = CRI(directory, write_image(directory / "box.tar", tree), runv, shim=False)
    with leftovers.checked(engine):
        yield engine
        engine.remove_all()


def test_a_pod(cri: CRI) -> None:
    pod = cri.pod()
    program = "mkdir /www; echo page > /www/index.html; exec httpd -f -h /www -p 127.0.0.1:80"
    web = pod.run("web", "sh", "-c", program)
    other = pod.run("other", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    until(lambda: other.exec("wget", "-q", "-O", "-", "http://127.0.0.1/").exit_code == 0, "web")
    assert pod.forward(80, b"GET / HTTP/1.0\r\n\r\n").endswith(b"page\n")
    assert web.stream("sh", "-c", "echo out; exit 5")[:1] == (b"out\n",)
    other.stop(30)
    assert other.status().exit_code == 9
    pod.remove()


def test_memory_that_runs_out(cri: CRI) -> None:
    pod = cri.pod()
    limit = {"resources": {"memory_limit_in_bytes": 32 << 20}}
    greedy = pod.run("greedy", "sh", "-c", "sleep 1; exec tail -c 100000000 /dev/zero", linux=limit)
    assert greedy.wait().exit_code == 137
    until(lambda: greedy.status().reason == "OOMKilled", "the reason OOMKilled", 10)
    pod.remove()
