"""`hyper run -p` and its like: pods of files, run in real VMs."""

import json
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_a_pod_of_two_containers_in_yaml(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "id: two\n"
        "containers:\n"
        "- {name: one, image: busybox, command: [sh, -c, 'cat /proc/sys/kernel/random/boot_id']}\n"
        "- {name: other, image: busybox, command: [sh, -c, 'sleep 1000']}\n"
    )
    first, second = hyper.text("run", "-p", str(file)).splitlines()
    assert first == "POD id is two"
    assert second.startswith("Time to run a POD is ") and second.endswith(" ms")
    assert hyper.text("wait", "one") == "0"
    boot_id = hyper.text("exec", "other", "cat", "/proc/sys/kernel/random/boot_id")
    assert hyper.text("logs", "one") == boot_id, "both are in one VM"
    added = hyper.text("create", "-c", "two", "--name", "late", "busybox", "echo", "hi")
    assert hyper.text("start", "-a", added) == "hi"
    hyper.text("rm", "-f", "one", "other", "late")
    hyperd.nothing_left()


def test_attached_with_the_exit_code(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    file = tmp_path / "pod"
    spec = {"containers": [{"image": "busybox", "command": ["sh", "-c", "echo hi; exit 5"]}]}
    file.write_text(json.dumps(spec))
    done = hyper("run", "--rm", "-a", "stdout", "-p", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (5, b"hi\n", b"")
    assert hyper.text("list", "-aq") == ""


def test_a_pod_of_kubernetes(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    file = tmp_path / "k8s.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: kube}\n"
        "spec:\n"
        "  restartPolicy: Never\n"
        "  volumes: [{name: shared, emptyDir: {}}]\n"
        "  initContainers:\n"
        "  - name: first\n    image: busybox\n    command: [sh, -c, 'echo from-init >/s/f']\n"
        "    volumeMounts: [{name: shared, mountPath: /s}]\n"
        "  containers:\n"
        "  - name: main\n    image: busybox\n    command: [cat, /s/f]\n"
        "    volumeMounts: [{name: shared, mountPath: /s}]\n"
    )
    hyper.text("run", "-k", str(file))
    assert hyper.text("wait", "main") == "0"
    assert hyper.text("logs", "main") == "from-init"
    hyper.text("rm", "main", "first")


def test_refusals(hyper: Hyper, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("containers:\n- image: busybox\n  restartpolicy: nonsense\n")
    done = hyper("run", "-p", str(file))
    assert done.returncode == 125
    assert b"containers[0].restartPolicy: 'nonsense' is none of" in done.stderr
    for arguments, says in (
        (["run", "-p", str(file), "-e", "A=1"], b"--env: not with a pod file"),
        (["run", "-p", str(file), "busybox"], b"the pod file names the images"),
        (["run", "-p", str(file), "-k", str(file)], b"exclude each other"),
        (["run", "-c", "pod", "busybox"], b"`hyper create` has it"),
        (["create", "-c", "pod", "-m", "1g", "busybox"], b"--memory: the pod has it"),
        (["run"], b"IMAGE"),
    ):
        done = hyper(*arguments)
        assert done.returncode == 125 and says in done.stderr, done
