"""Images made here: of containers, of archives; their history, and clearing them away."""

import gzip
import json
from pathlib import Path

import pytest

from hypercontainer.client import Client
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd
from tests.images import make_image
from tests.tars import Item, folder, make_tar

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def hyper(hyperd: Hyperd) -> Hyper:
    return Hyper(hyperd.socket)


def test_commit_a_stopped_container(hyper: Hyper) -> None:
    script = "echo new > /etc/new; rm /etc/passwd; mkdir /d; chmod 700 /d; echo $X > /d/x"
    hyper("run", "--name", "changed", "-e", "X=1", "-w", "/d", "busybox", "sh", "-c", script)
    base = Client(hyper.host).inspect_image("busybox")
    image_id = hyper.text(
        *("commit", "-a", "Someone", "-m", "a note", "-c", "LABEL a=b"),
        *("-c", 'CMD ["cat", "x"]', "-c", "ENV Y=${X}2", "changed", "made:1"),
    )
    assert image_id.startswith("sha256:")
    image = Client(hyper.host).inspect_image("made:1")
    config = image["Config"]
    assert (image["Id"], image["Author"]) == (image_id, "Someone")
    assert config["Labels"] == {"from": "image", "a": "b"}
    assert config["Cmd"] == ["cat", "x"] and "Y=12" in config["Env"]
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert hyper.text("run", "--rm", "made:1") == "1"
    seen = hyper.text("run", "--rm", "made:1", "sh", "-c", "ls -d /etc/* /d; stat -c %a /d; pwd")
    assert seen.splitlines()[-2:] == ["700", "/d"]
    assert "/etc/new" in seen and "/etc/passwd" not in seen
    lines = hyper.text("history", "made:1").splitlines()
    assert lines[1].startswith(image_id[7:19]) and lines[1].endswith("a note")
    assert "sh -c echo new" in lines[1]
    hyper.text("rm", "changed")
    done = hyper("commit", "-c", "RUN true", "none", "x")
    assert done.returncode == 1 and b"no such container" in done.stderr


def test_commit_a_running_container(hyper: Hyper, tmp_path: Path) -> None:
    hyper.text("run", "-d", "--name", "running", "busybox", "sh", "-c", "echo 1 > /one; sleep 600")
    hyper.text("exec", "running", "sh", "-c", "until [ -s /one ]; do sleep 0.1; done")
    for pause in ([], ["--no-pause"]):
        image_id = hyper.text("commit", *pause, "running")
        assert hyper.text("run", "--rm", image_id, "cat", "/one") == "1"
    assert hyper.text("exec", "running", "echo", "goes on") == "goes on"
    done = hyper("commit", "-c", "RUN true", "running", "x")
    assert done.returncode == 1 and b"only these change an image" in done.stderr
    done = hyper("commit", "running", "Bad:1")
    assert done.returncode == 1 and b"lower case" in done.stderr
    hyper.text("rm", "-f", "running")
    before = len(Client(hyper.host).list_images())
    pruned = hyper.text("image", "prune", "-f")
    assert f"deleted: {image_id}" in pruned and "Total reclaimed space: " in pruned
    assert len(Client(hyper.host).list_images()) < before
    assert hyper("image", "inspect", "busybox").returncode == 0


def test_import(hyper: Hyper, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar.gz"
    archive.write_bytes(gzip.compress(make_tar([folder("etc"), Item("etc/x", b"1")])))
    image_id = hyper.text(
        "import", "-m", "by hand", "-c", 'ENTRYPOINT ["/x"]', str(archive), "imported:2"
    )
    image = json.loads(hyper.text("image", "inspect", "imported:2"))[0]
    assert image["Id"] == image_id and image["Config"]["Entrypoint"] == ["/x"]
    assert hyper.text("history", "imported:2").endswith("by hand")
    done = hyper("import", "-", input=make_tar([Item("../x", b"1")]))
    assert done.returncode == 1 and b"leads out of the image" in done.stderr
    done = hyper("import", "http://127.0.0.1/x")
    assert done.returncode == 1 and b"not supported" in done.stderr
    done = hyper("rmi", "imported:2")
    assert done.returncode == 0


def test_load_a_layout_by_other_names(hyper: Hyper, tmp_path: Path) -> None:
    archive = tmp_path / "layout.tar"
    make_image(archive, [make_tar([Item("a", b"1")])], "docker.io/library/first:3")
    hyper.text("load", "-q", "-n", "other", "-i", str(archive))
    hyper.text("load", "-q", "-r", "3=third:blue", "-i", str(archive))
    names = Client(hyper.host).inspect_image("other:3")["RepoTags"]
    assert sorted(names) == ["other:3", "third:blue"]
    done = hyper("load", "-n", "x", "-i", str(archive.parent / "none.tar"))
    assert done.returncode == 1
    docker = hyper("save", "other:3").stdout
    done = hyper("load", "-n", "x", input=docker)
    assert done.returncode == 1 and b"this is Docker's archive" in done.stderr
    hyper.text("image", "rm", "-f", "other:3", "third:blue")


def test_what_takes_how_much(hyper: Hyper) -> None:
    hyper("create", "--name", "idle", "busybox", "true")
    rows = [line.split("  ")[0] for line in hyper.text("system", "df").splitlines()]
    assert rows == ["TYPE", "Images", "Containers", "Local Volumes"]
    usage = json.loads(hyper.text("system", "df", "--format", "json"))
    (image,) = [one for one in usage["Images"] if "busybox:latest" in one["RepoTags"]]
    assert image["Containers"] == 1
    assert 0 < image["Size"] <= usage["LayersSize"] - usage["ImagesReclaimable"]
    hyper.text("rm", "idle")
    usage = json.loads(hyper.text("system", "df", "--format", "json"))
    assert usage["ImagesReclaimable"] == usage["LayersSize"]
