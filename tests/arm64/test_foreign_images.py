"""Images for arm64 beside those for the host, by the commands that people type."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arm64.busybox import busybox
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd, wait_until
from tests.e2e.rootfs import BUSYBOX, make_config, make_tree
from tests.e2e.runv_process import Runv
from tests.images import list_entry, make_image, put_list
from tests.registry import RegistryServer
from tests.tars import Item, folder, make_tar, symlink

ARM = ("--platform", "linux/arm64")


def layer() -> bytes:
    """A root file system of arm64's busybox; its applets are those of the host's."""
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True, timeout=30)
    applets = set(listed.stdout.decode().split()) - {"busybox"}
    return make_tar(
        [
            *(folder(name) for name in ("bin", "etc", "proc", "root", "tmp")),
            Item("bin/busybox", busybox().read_bytes(), mode=0o755),
            Item("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
            *(symlink(f"bin/{name}", "busybox") for name in sorted(applets)),
        ]
    )


@pytest.fixture(scope="module")
def image(hyperd: Hyperd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an image in a registry, for both platforms."""
    directory = tmp_path_factory.mktemp("images")
    arm = make_image(directory / "arm.tar", [layer()], architecture="arm64", variant="v8")
    with RegistryServer(tmp_path_factory.mktemp("registry")) as registry:
        entries = [
            list_entry(registry.push(source, f"box:{name}", "--format", "v2s2"), name)
            for name, source in (
                ("amd64", f"docker-archive:{hyperd.root.parent}/busybox.tar"),
                ("arm64", arm),
            )
        ]
        yield put_list(registry.host, "box", "1", entries)


@pytest.fixture
def hyper(hyperd: Hyperd) -> Hyper:
    return Hyper(hyperd.socket)


def last_line(hyper: Hyper, *arguments: str) -> str:
    done = hyper(*arguments)
    assert done.returncode == 0, done
    return done.stdout.decode().splitlines()[-1]


def test_the_name_means_what_was_pulled_last(hyper: Hyper, image: str) -> None:
    def architecture() -> str:
        return str(json.loads(hyper.text("inspect", "--type", "image", image))[0]["Architecture"])

    assert last_line(hyper, "run", "--rm", *ARM, image, "uname", "-m") == "aarch64"
    assert architecture() == "arm64"
    assert last_line(hyper, "run", "--rm", image, "uname", "-m") == "aarch64"
    assert last_line(hyper, "run", "--rm", "--platform", "amd64", image, "uname", "-m") == "x86_64"
    assert architecture() == "amd64"
    never = hyper("run", "--rm", "--pull", "never", *ARM, image, "true")
    assert never.returncode == 125
    assert f"no such image for linux/arm64: {image} is here for linux/amd64" in str(never.stderr)


def test_a_container_lives_and_ends(hyper: Hyper, hyperd: Hyperd, image: str) -> None:
    script = "trap 'exit 9' TERM; echo up; while true; do sleep 0.1; done"
    last_line(hyper, "run", "-d", "--name", "long", *ARM, image, "sh", "-c", script)
    assert hyperd.vm_of("long")["Architecture"] == "arm64"
    assert last_line(hyper, "exec", "long", "uname", "-m") == "aarch64"
    assert hyper("exec", "long", "sh", "-c", "exit 7").returncode == 7
    fed = hyper("exec", "-i", "long", "wc", "-c", input=b"x" * 100_000)
    assert fed.stdout.split() == [b"100000"]
    wait_until(lambda: "up" in hyperd.output_of("long"), "the container's output")
    assert hyper("stop", "long").returncode == 0
    assert hyperd.state_of("long")["ExitCode"] == 9
    assert hyper("run", "--rm", *ARM, image, "sh", "-c", "exit 3").returncode == 3


def test_files_come_and_go(hyper: Hyper, image: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    shared = f"{tmp_path}:/mnt"
    script = "cat /mnt/in; uname -m > /mnt/out; echo kept > /root/file"
    done = hyper("run", "--name", "files", "-v", shared, *ARM, image, "sh", "-c", script)
    assert done.stdout == b"from the host\n", done
    assert (tmp_path / "out").read_text() == "aarch64\n"
    # It has ended: its disk is read in a VM of the same architecture.
    assert hyper("cp", "files:/root/file", str(tmp_path / "copy")).returncode == 0
    assert (tmp_path / "copy").read_text() == "kept\n"
    assert hyper("rm", "files").returncode == 0


def test_the_user_network(hyper: Hyper, image: str, hyperd: Hyperd) -> None:
    registry = image.partition("/")[0].rpartition(":")[2]
    address = f"http://10.0.2.2:{registry}/v2/"
    done = hyper(
        *("run", "--rm", "--network", "user", *ARM, image, "wget", "-q", "-O", "-", address)
    )
    assert done.stdout == b"{}", done


def test_a_build_runs_programs_of_its_platform(hyper: Hyper, image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM --platform=linux/arm64 {image}\nRUN uname -m > /made\nCMD cat /made\n"
    )
    assert hyper("build", "-t", "built", str(tmp_path), timeout=250).returncode == 0
    assert last_line(hyper, "run", "--rm", "built") == "aarch64"


def test_a_build_for_a_platform(hyper: Hyper, image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM --platform=$BUILDPLATFORM {image} AS host\nRUN uname -m > /host\n"
        f"FROM {image}\nARG TARGETPLATFORM TARGETARCH BUILDARCH\nCOPY --from=host /host /host\n"
        'RUN echo "$(cat /host) $(uname -m) $TARGETPLATFORM $TARGETARCH $BUILDARCH" > /made\n'
        "CMD cat /made\n"
    )
    assert hyper("build", *ARM, "-t", "both", str(tmp_path), timeout=250).returncode == 0
    said = last_line(hyper, "run", "--rm", "both")
    assert said == "x86_64 aarch64 linux/arm64 arm64 amd64"
    refused = hyper("build", "--platform", "linux/riscv64", str(tmp_path))
    assert refused.returncode == 1
    assert b"platform linux/riscv64: hyper has neither an emulator" in refused.stderr


def test_a_pod_goes_on_from_the_disk(hyper: Hyper, hyperd: Hyperd, image: str) -> None:
    last_line(hyper, "run", "-d", "--name", "saved", *ARM, image, "sleep", "600")
    assert hyper("exec", "saved", "touch", "/tmp/there").returncode == 0
    done = hyper("pause", "--to-disk", "saved")
    assert done.returncode == 0, done
    done = hyper("unpause", "saved")
    assert done.returncode == 0, done
    assert last_line(hyper, "exec", "saved", "ls", "/tmp") == "there"
    assert hyper("rm", "-f", "saved").returncode == 0


def test_what_there_is_not_is_said(hyper: Hyper, image: str, tmp_path: Path) -> None:
    last_line(hyper, "run", "-d", "--name", "other", *ARM, image, "sleep", "600")
    inside = hyper("exec", "-m", "other", "true")
    assert b"exec in the virtual machine of linux/arm64" in inside.stderr
    hyper("rm", "-f", "other")
    names = ("busybox", image)
    described = {"id": "mixed", "containers": [{"image": name} for name in names]}
    described["containers"][1]["platform"] = "linux/arm64"  # type: ignore[index]
    (tmp_path / "pod.json").write_text(json.dumps(described))
    mixed = hyper("run", "-p", str(tmp_path / "pod.json"))
    assert b"images for several architectures in one pod" in mixed.stderr


def test_runv_by_an_annotation(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "bin" / "busybox").write_bytes(busybox().read_bytes())
    runv = Runv(tmp_path, tree)
    config = make_config("uname", "-m")
    config["annotations"] = {"org.hypercontainer.architecture": "arm64"}
    done = runv("run", "--bundle", runv.bundle(config=config), "arm", check=False)
    assert (done.returncode, done.stdout) == (0, b"aarch64\n"), done
