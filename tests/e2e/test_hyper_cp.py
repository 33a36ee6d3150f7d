"""`hyper cp`, `export` and `diff`, as a user calls them."""

import io
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


SCRIPT = "mkdir -p /d/sub /empty; echo in > /d/f; chmod 750 /d/sub; ln -s /d/f /link; sleep 1000"


@pytest.fixture(scope="module")
def box(hyper: Hyper) -> Iterator[str]:
    """A container that runs, with some files."""
    hyper.text("run", "-d", "--name", "box", "busybox", "sh", "-c", SCRIPT)
    while hyper("exec", "box", "test", "-L", "/link").returncode:
        pass
    yield "box"
    assert hyper.text("rm", "-f", "box") == "box"


def test_out_of_a_container(hyper: Hyper, box: str, tmp_path: Path) -> None:
    """Docker's rules for what is there and what is not."""
    here = str(tmp_path)
    hyper.text("cp", "box:/d", here)
    assert (tmp_path / "d/f").read_text() == "in\n"
    assert (tmp_path / "d/sub").stat().st_mode & 0o777 == 0o750
    hyper.text("cp", "box:d", f"{here}/new")
    assert (tmp_path / "new/f").read_text() == "in\n"
    hyper.text("cp", "box:/d", f"{here}/new")
    assert (tmp_path / "new/d/f").exists()
    hyper.text("cp", "box:/d/.", f"{here}/content")
    assert (tmp_path / "content/f").exists() and not (tmp_path / "content/d").exists()
    hyper.text("cp", "box:/d/f", f"{here}/g")
    hyper.text("cp", "box:/d/f", f"{here}/g")
    assert (tmp_path / "g").read_text() == "in\n"
    hyper.text("cp", "box:/link", here)
    assert os.readlink(tmp_path / "link") == "/d/f"
    hyper.text("cp", "-L", "box:/link", f"{here}/followed")
    assert (tmp_path / "followed").read_text() == "in\n"
    with tarfile.open(fileobj=io.BytesIO(hyper("cp", "box:/d", "-").stdout)) as tar:
        assert {"d", "d/f", "d/sub"} <= set(tar.getnames())
    for arguments, text in (
        (("box:/nothing", here), "/nothing: no such"),
        (("box:/d", f"{here}/g"), "cannot copy a directory onto a file"),
        (("box:/d/f", f"{here}/no/"), "no such directory"),
        (("nobody:/d/f", here), "nobody"),
        (("box:/d", "box:/e"), "between containers"),
        (("a", "b"), "CONTAINER:PATH"),
    ):
        done = hyper("cp", *arguments)
        assert done.returncode and text in done.stderr.decode(), done
        assert done.stderr.count(b"\n") == 1


def test_into_a_container(hyper: Hyper, box: str, tmp_path: Path) -> None:
    """The same rules the other way round; owners only with -a."""
    (tmp_path / "t/deep").mkdir(parents=True)
    (tmp_path / "t/x").write_text("out")
    (tmp_path / "t/deep/big").write_bytes(os.urandom(3 << 20))
    os.chown(tmp_path / "t/x", 1000, 1000)
    os.chmod(tmp_path / "t/x", 0o640)
    os.symlink("x", tmp_path / "t/l")
    odd = os.fsencode(tmp_path / "t/deep") + b'/\xff\n"\\'
    Path(os.fsdecode(odd)).write_text("odd")
    source = str(tmp_path / "t")
    hyper.text("cp", source, "box:/empty")
    assert hyper.text("exec", "box", "stat", "-c", "%u %a", "/empty/t/x") == "0 640"
    hyper.text("cp", "-a", source, "box:/made")
    assert hyper.text("exec", "box", "stat", "-c", "%u %a", "/made/x") == "1000 640"
    assert hyper.text("exec", "box", "readlink", "/made/l") == "x"
    (tmp_path / "hosts").write_text("10.0.0.1 mine\n")
    hyper.text("cp", str(tmp_path / "hosts"), "box:/etc/hosts")
    assert hyper.text("exec", "box", "cat", "/etc/hosts") == "10.0.0.1 mine"
    digest = hyper.text("exec", "box", "md5sum", "/made/deep/big").split()[0]
    hyper.text("cp", "box:/made/deep/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "t/deep/big").read_bytes(), digest
    hyper.text("cp", "box:/made/deep", str(tmp_path / "deep"))
    assert sorted(os.listdir(os.fsencode(tmp_path / "deep"))) == [b"big", b'\xff\n"\\']
    hyper.text("cp", f"{source}/.", "box:/made")
    assert hyper.text("exec", "box", "stat", "-c", "%u", "/made/x") == "0"
    hyper.text("cp", f"{source}/x", "box:/link")
    assert hyper.text("exec", "box", "cat", "/d/f") == "out"
    hyper.text("cp", "-L", f"{source}/l", "box:/made/followed")
    assert hyper.text("exec", "box", "cat", "/made/followed") == "out"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(tmp_path / "t/x", "from-tar")
    hyper.text("cp", "-", "box:/d", input=archive.getvalue())
    assert hyper.text("exec", "box", "cat", "/d/from-tar") == "out"
    for arguments, text in (
        ((source, "box:/d/f"), "cannot copy a directory onto a file"),
        ((f"{source}/x", "box:/no/"), "no such directory"),
        ((f"{source}/x", "box:/no/x"), "no such file or directory"),
        ((f"{source}/none", "box:/d"), "no such file"),
        ((f"{source}/x", "nobody:/d"), "no such container"),
    ):
        done = hyper("cp", *arguments)
        assert done.returncode and text in done.stderr.decode(), done


def test_a_stopped_container(hyper: Hyper, tmp_path: Path) -> None:
    """Copied from and to without running it; what it changed is listed and exported."""
    hyper("run", "--name", "ended", "busybox", "sh", "-c", "echo kept > /root/kept; rm /etc/group")
    assert set(hyper.text("diff", "ended").splitlines()) == {
        *("C /etc", "D /etc/group", "C /root", "A /root/kept")
    }
    (tmp_path / "f").write_text("new")
    hyper.text("cp", str(tmp_path / "f"), "ended:/root/kept")
    hyper.text("cp", "ended:/root/kept", str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "new"
    hyper.text("export", "-o", str(tmp_path / "all.tar"), "ended")
    with tarfile.open(tmp_path / "all.tar") as tar:
        names = tar.getnames()
    assert "root/kept" in names and "bin/busybox" in names and "etc/group" not in names
    assert hyper.text("rm", "ended") == "ended"


def test_what_can_not_be_written(hyper: Hyper, box: str, tmp_path: Path) -> None:
    """A read-only container ends the copy at once; a paused one is not touched."""
    hyper.text("run", "-d", "--name", "ro", "--read-only", "busybox", "sleep", "1000")
    header = tarfile.TarInfo("x")
    header.size = 1 << 40
    with hyper.start("cp", "-", "ro:/root") as process:
        assert process.stdin is not None and process.stderr is not None
        os.set_blocking(process.stdin.fileno(), True)
        try:
            process.stdin.write(header.tobuf())
            while True:
                process.stdin.write(bytes(1 << 16))
        except BrokenPipeError:
            pass
        assert b"read-only file system" in process.stderr.read()
        process.stdin = None
        assert process.wait(timeout=60) == 1
    hyper.text("pause", "ro")
    done = hyper("cp", "ro:/etc/passwd", str(tmp_path))
    assert done.returncode == 1 and b"is paused: unpause it first" in done.stderr
    hyper.text("rm", "-f", "ro")


def test_hyperd_dies_while_it_exports(own_hyperd: Hyperd) -> None:
    """Nothing is left of the VM that it did that in, and the container can be started."""
    hyper = Hyper(own_hyperd.socket)
    hyper("run", "--name", "c", "busybox", "true")
    with hyper.start("export", "c") as process:
        assert process.stdout is not None
        process.stdout.read(1 << 16)
        own_hyperd.end(signal.SIGKILL)
        process.kill()
    own_hyperd.start()
    assert hyper("start", "-a", "c").returncode == 0
    own_hyperd.nothing_left()
