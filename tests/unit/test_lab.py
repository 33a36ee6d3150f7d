"""The lab without its machine: the stream of commands, the cache, layers, QEMU's command line."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import image, layers, machine
from lab.cache import Cache
from lab.commands import Commands
from lab.errors import LabError
from lab.labs import LABS

REPOSITORY = Path(__file__).parents[2]


def answered(*pieces: bytes) -> tuple[Commands, list[bytes]]:
    """Commands whose other end sends `pieces`, the nonce in place of NONCE, and closes."""
    ours, theirs = socket.socketpair()
    said: list[bytes] = []

    def answer() -> None:
        with theirs:
            nonce = theirs.recv(1000).split()[0]
            for piece in pieces:
                theirs.sendall(piece.replace(b"NONCE", nonce))

    threading.Thread(target=answer, daemon=True).start()
    return Commands(ours, said.append), said


def test_output_and_exit_code() -> None:
    commands, said = answered(b"one\n", b"two", b"\1NONCE 3\n")
    assert commands.run("whatever", 10) == 3
    assert b"".join(said) == b"one\ntwo"


def test_an_answer_in_single_bytes() -> None:
    answer = b"a\1b\1\1NONCE 12\n"
    ours, theirs = socket.socketpair()
    said: list[bytes] = []

    def send() -> None:
        nonce = theirs.recv(1000).split()[0]
        for byte in answer.replace(b"NONCE", nonce):
            theirs.sendall(bytes([byte]))

    threading.Thread(target=send, daemon=True).start()
    assert Commands(ours, said.append).run("x", 10) == 12
    assert b"".join(said) == b"a\1b\1"
    theirs.close()


def test_a_script_that_must_succeed_tells_what_it_said() -> None:
    commands, said = answered(b"no such thing\n\1NONCE 1\n")
    with pytest.raises(LabError, match=r"false: exit code 1: no such thing"):
        commands.output_of("false", 10)
    assert said == []


def test_a_machine_that_goes_and_one_that_hangs() -> None:
    commands, _ = answered(b"half an ans")
    with pytest.raises(LabError, match="is gone; it should have come to end: last"):
        commands.run("first\nlast\n", 10)
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(LabError, match=r"did not within 0 s start"):
        Commands(ours, lambda said: None).wait_ready(0.1)


def test_the_cache_makes_once_and_keeps_a_few(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "lab")
    made: list[str] = []

    def maker(key: str) -> Callable[[Path], None]:
        def make(directory: Path) -> None:
            made.append(key)
            (directory / "result").write_text(key)

        return make

    for key in ("a", "a", "b", "b"):
        assert (cache.get("x", key, maker(key)) / "result").read_text() == key
    os.utime(tmp_path / "lab" / "x-a", (0, 0))
    cache.get("other", "o", maker("o"))
    cache.get("x", "c", maker("c"))
    assert made == ["a", "b", "o", "c"]
    assert sorted(path.name for path in (tmp_path / "lab").glob("[!.]*")) == [
        *("other-o", "x-b", "x-c"),
    ]


def test_what_fails_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("")
        raise LabError("no network")

    with pytest.raises(LabError):
        Cache(tmp_path).get("x", "a", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".x.lock"]


def test_a_layer_has_files_where_they_are_wanted(tmp_path: Path) -> None:
    if shutil.which("sqfstar") is None:
        pytest.skip("no sqfstar here")
    tree = tmp_path / "tree"
    for name in ("kept/file", "kept/__unused__/file"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "kept").chmod(0o750)
    target = tmp_path / "layer.squashfs"
    place = Path("/some/where")
    layers.of_paths(target, [(tree / "kept", place / "kept")], frozenset(["__unused__"]))
    done = subprocess.run(
        ["unsquashfs", "-lln", "-d", "", str(target)], capture_output=True, text=True, check=True
    )
    found = {line.split()[-1]: line.split()[0] for line in done.stdout.splitlines() if "/" in line}
    assert found["/some/where/kept/file"].startswith("-rw")
    assert found["/some/where/kept"] == "drwxr-x---"
    assert not any("__unused__" in name for name in found)


def test_a_layer_that_can_not_be_made(tmp_path: Path) -> None:
    def fail(stream: object) -> None:
        raise LabError("no packages")

    target = tmp_path / "layer.squashfs"
    with pytest.raises(LabError, match="no packages"):
        layers.make(target, fail)
    assert not target.exists()


BOOT = machine.Boot(
    kernel=Path("/k"),
    initramfs=Path("/i"),
    arguments="quiet",
    layers=[Path("/a"), Path("/b")],
    cpu="max",
    memory_mib=1024,
    threads="single",
)


def test_the_machine_gets_the_layers_in_their_order_and_a_scratch_disk_last(
    tmp_path: Path,
) -> None:
    argv = machine._command(BOOT, tmp_path / "serial", 7, 8)
    drives = [value for value in argv if value.startswith("if=none")]
    assert [drive.split(",")[3] for drive in drives] == [
        *("file=/a", "file=/b", "file=/proc/self/fd/8"),
    ]
    assert ["read-only=off" in drive for drive in drives] == [False, False, True]
    assert argv[argv.index("-initrd") + 1] == "/i"
    assert "quiet lab.layers=2" in argv[argv.index("-append") + 1]


def test_a_hypervisor_starts_the_kernel(tmp_path: Path) -> None:
    wanted = BOOT._replace(hypervisor=Path("/xen"), hypervisor_arguments="dom0_mem=1G")
    argv = machine._command(wanted, tmp_path / "serial", 7, 8)
    assert argv[argv.index("-kernel") + 1] == "/xen"
    assert argv[argv.index("-append") + 1] == "dom0_mem=1G"
    assert argv[argv.index("-accel") + 1] == "tcg,thread=single"
    kernel, _, initramfs = argv[argv.index("-initrd") + 1].rpartition(",")
    assert kernel.startswith("/k console=hvc0 quiet lab.layers=2")
    assert initramfs == "/i"


def test_the_key_of_an_image_is_that_of_its_inputs() -> None:
    wanted = LABS["kvm"].wanted()
    assert "qemu-system-x86" in wanted.packages
    assert image._key(wanted) == image._key(wanted)
    more = wanted._replace(packages=(*wanted.packages, "hello"))
    assert image._key(more) != image._key(wanted)


def test_the_tests_of_labs_are_there() -> None:
    for lab in LABS.values():
        for wanted in lab.tests:
            path, _, name = wanted.partition("::")
            assert (REPOSITORY / path).exists(), path
            assert not name or f"def {name}(" in (REPOSITORY / path).read_text(), wanted


def test_the_guests_scripts_are_sound() -> None:
    for script in (REPOSITORY / "lab" / "guest").iterdir():
        if script.read_bytes().startswith(b"#!"):
            assert os.access(script, os.X_OK), script
            subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)


def test_an_unknown_lab_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "vax"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "invalid choice: 'vax'" in done.stderr
