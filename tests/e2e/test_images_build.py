"""Building images of Dockerfiles by `hyper build`: each RUN in a VM of its own."""

import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from hypercontainer.client import Client
from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd
from tests.tars import Item, folder, make_tar, symlink

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def hyper(hyperd: Hyperd) -> Hyper:
    return Hyper(hyperd.socket)


def build(hyper: Hyper, path: Path, *options: str) -> "subprocess.CompletedProcess[bytes]":
    done = hyper("build", *options, str(path), timeout=180)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


def files_of(hyper: Hyper, image: str, tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    """The entries of an image's last layer."""
    data = hyper("save", image).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as saved:
        manifest = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        layer = saved.extractfile(manifest[0]["Layers"][-1])
        assert layer is not None
        with tarfile.open(fileobj=layer) as tar:
            return {entry.name: entry for entry in tar}


def test_a_dockerfile(hyper: Hyper, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        """\
ARG BASE=busybox
FROM $BASE AS first
ARG WORD=unset
ENV GREETING="hello $WORD"
WORKDIR /work/dir
RUN echo "$GREETING" > said && mkdir -m 700 sub && id -u > sub/id && echo to the output
FROM busybox
COPY --from=first --chown=7:8 /work/dir /copied
COPY --chmod=0640 *.txt a/ /put/
RUN <<EOF
cat /copied/said
cat /copied/sub/id /put/one.txt /put/deep/two
EOF
LABEL kind=test
USER 7
ENTRYPOINT ["cat"]
CMD ["/copied/said"]
"""
    )
    (tmp_path / "one.txt").write_text("1\n")
    (tmp_path / "secret.txt").write_text("no\n")
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/deep/two").write_text("2\n")
    (tmp_path / ".dockerignore").write_text("**/secret*\nDockerfile\n")
    options = ("-t", "built:1", "-t", "built:2", "--build-arg", "WORD=world", "--label", "a=b")
    done = build(hyper, tmp_path, *options)
    text = done.stdout.decode()
    assert "Step 1/13 : FROM $BASE AS first" in text
    assert "to the output\n" in text and "hello world\n0\n1\n2\n" in text
    assert "Successfully tagged built:2" in text
    image = Client(hyper.host).inspect_image("built:1")
    config = image["Config"]
    assert config["Labels"] == {"from": "image", "kind": "test", "a": "b"}
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == (
        "7",
        ["cat"],
        ["/copied/said"],
    )
    assert not [entry for entry in config["Env"] if entry.startswith("GREETING")]
    script = "stat -c '%a %u:%g' /copied/said /copied/sub /put/one.txt; ls /put"
    seen = hyper.text("run", "--rm", "-u", "0", "--entrypoint", "sh", "built:1", "-c", script)
    assert seen.splitlines() == ["644 7:8", "700 7:8", "640 0:0", "deep", "one.txt"]
    assert hyper.text("list", "-aq") == ""

    again = build(hyper, tmp_path, *options).stdout.decode()
    assert again.count("Using cache") == 5 and "\nto the output" not in again
    assert Client(hyper.host).inspect_image("built:1")["Id"] == image["Id"]
    listed = hyper.text("images", "-q", "--no-trunc").split()
    assert set(listed) < set(hyper.text("images", "-aq", "--no-trunc").split())

    (tmp_path / "one.txt").write_text("changed\n")
    done = build(hyper, tmp_path, "-q", *options)
    assert done.stdout.decode().strip() not in ("", image["Id"])
    assert done.stdout.decode().startswith("sha256:")


def test_a_step_that_fails(hyper: Hyper, tmp_path: Path) -> None:
    before = hyper.text("images", "-aq")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\n\nRUN echo before; exit 7\nRUN echo never\n"
    )
    done = hyper("build", "-t", "failed", str(tmp_path), timeout=120)
    assert done.returncode == 7
    assert b"before\n" in done.stdout and b"never" not in done.stdout.partition(b"Step 3")[2]
    error = done.stderr.decode().splitlines()[-1]
    assert error == (
        "hyper: Dockerfile line 3: RUN echo before; exit 7: returned a non-zero code: 7"
    )
    assert hyper.text("list", "-aq") == "" and hyper.text("images", "-aq") == before
    for text, reason in {
        "FROM 127.0.0.1:9/x\n": "Dockerfile line 1: ",
        "FROM busybox\nCOPY nothing /x\n": "line 2: no such file in the context: 'nothing'",
        "FROM busybox\nCOPY ../x /x\n": "line 2: '../x' leads out of the context",
        "FROM busybox\nCOPY --chown=who . /x\n": "the image has no user 'who'",
        "FROM busybox\nCOPY Dockerfile /etc\nCOPY . /etc/passwd/x\n": "is not a directory",
        "FROM busybox\nRUN --mount=type=cache,target=/x y\n": "RUN --mount: not supported",
        "FROM scratch\nRUN true\n": "there is no program yet",
        "FROM --platform=linux/s390x busybox\n": "platform linux/s390x: hyper has neither",
        "FROM busybox\nCOPY --from=2 a b\n": "no stage 2",
    }.items():
        (tmp_path / "Dockerfile").write_text(text)
        done = hyper("build", str(tmp_path))
        assert done.returncode == 1 and reason in done.stderr.decode(), (text, done.stderr)
    done = hyper("build", "--target", "x", "-", input=b"FROM busybox\n")
    assert b"no stage 'x'" in done.stderr


def test_copies_without_a_vm(hyper: Hyper, tmp_path: Path) -> None:
    root = make_tar(
        [
            folder("tmp", 0o1777),
            folder("usr"),
            folder("usr/bin"),
            symlink("bin", "usr/bin"),
            folder("etc"),
            Item("etc/passwd", b"web:x:33:44::/:/x\n"),
            Item("etc/group", b"adm:x:55:\n"),
        ]
    )
    hyper.text("import", "-c", "ONBUILD COPY b /onbuild", "-", "rootfs", input=root)
    context = tmp_path / "context"
    (context / "bin").mkdir(parents=True)
    (context / "bin/tool").write_text("x")
    os.link(context / "bin/tool", context / "bin/same")
    os.symlink("/etc/shadow", context / "link")
    (context / "b").write_text("b")
    (context / "in.tar.gz").write_bytes(
        gzip.compress(make_tar([folder("t", 0o700, owner=3), Item("t/f", b"1", owner=3)]))
    )
    (context / "Dockerfile").write_text(
        "FROM rootfs\nCOPY --chown=web:adm . /\nCOPY b /tmp/\nADD in.tar.gz /tmp/new\n"
        "WORKDIR ../opt\n"
    )
    (context / ".dockerignore").write_text("*\n!b\n!bin\n!link\n!in.tar.gz\n")
    build(hyper, context, "-t", "copies")
    layers = hyper("save", "copies").stdout
    entries: list[dict[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=io.BytesIO(layers)) as saved:
        manifest = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        for name in manifest[0]["Layers"][1:]:
            with tarfile.open(fileobj=saved.extractfile(name)) as tar:
                entries.append({entry.name: entry for entry in tar})
    onbuild, copied, into, added, workdir = entries
    assert onbuild["onbuild"].isreg()
    tool = copied["usr/bin/tool"]
    assert "bin/tool" not in copied and "bin" not in copied
    assert {tool.islnk(), copied["usr/bin/same"].islnk()} == {True, False}
    assert (tool.uid, tool.gid, copied["usr/bin"].uid) == (33, 55, 0)
    assert copied["link"].linkname == "/etc/shadow"
    assert "Dockerfile" not in copied and ".dockerignore" not in copied
    assert (into["tmp"].mode, into["tmp/b"].uid) == (0o1777, 0)
    assert (added["tmp/new/t"].mode, added["tmp/new/t/f"].uid) == (0o700, 3)
    assert workdir["opt"].isdir()
    assert Client(hyper.host).inspect_image("copies")["Config"]["WorkingDir"] == "/opt"


def test_other_dockerfiles(hyper: Hyper, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "f").write_text("1")
    outside = tmp_path / "Other"
    outside.write_text(
        "FROM scratch\nCOPY . /\nCOPY <<x <<'y' /d/\n$HOME-${V:-v}'q'\nx\n$HOME\ny\n"
    )
    build(hyper, context, "-f", str(outside), "-t", "other")
    assert set(files_of(hyper, "other", tmp_path)) >= {"d/x", "d/y"}
    assert "f" not in files_of(hyper, "other", tmp_path)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(outside, "sub/My")
    done = hyper("build", "-f", "sub/My", "--target", "0", "-", input=data.getvalue())
    assert done.returncode == 0, done.stderr
    done = hyper("build", str(context))
    assert done.returncode == 1 and b"cannot read the Dockerfile" in done.stderr


def test_a_client_that_goes_away_ends_the_build(hyper: Hyper, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo be''gun; sleep 600\n")
    before = hyper.text("images", "-aq")
    process = hyper.start("build", str(tmp_path))
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"begun\n":
                break
        else:
            raise AssertionError(process.communicate())
    finally:
        process.kill()
        process.communicate(timeout=60)
    until(lambda: hyper.text("list", "-aq") == "", 60)
    assert hyper.text("images", "-aq") == before
