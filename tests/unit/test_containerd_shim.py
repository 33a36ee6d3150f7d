"""The shim's parts that need no VM: command line, options, streams, statistics."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from hypercontainer.containerd.api import runtime_options_pb2, shim_task_pb2, types_pb2
from hypercontainer.containerd.shim import address, cleanup, main, options, rootfs
from hypercontainer.containerd.shim.stats import metrics
from hypercontainer.containerd.shim.stdio import Stdio
from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.oci.making import Settings

BOUND = 60.0
HEAVY = ("google.protobuf", "asyncio", "argparse", "hypercontainer.containerd")


def test_flags() -> None:
    flags = main.parse(["-namespace", "n", "-debug", "--id=x", "start", "-more"])
    assert (flags.action, flags.need("namespace"), flags.need("id")) == ("start", "n", "x")
    assert flags.switches == {"debug"}
    with pytest.raises(BadRequest, match="-address is needed"):
        flags.need("address")
    for wrong in (["-nothing", "start"], ["-id"]):
        with pytest.raises(BadRequest):
            main.parse(wrong)


def test_the_information() -> None:
    options = given(config_path="/x")
    code = "from hypercontainer.containerd.shim.main import main; main(['-info'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=options.SerializeToString(),
        capture_output=True,
        check=True,
        timeout=BOUND,
    )
    info = types_pb2.RuntimeInfo.FromString(done.stdout)
    assert (info.name, info.options) == ("io.containerd.runv.v2", options)
    assert b'"ociVersionMax"' in info.features.value


def test_the_bootstrap_answer_is_what_the_caller_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAX_SHIM_VERSION", raising=False)
    assert main._bootstrap("unix:///s") == "unix:///s"
    monkeypatch.setenv("MAX_SHIM_VERSION", "2")
    assert main._bootstrap("unix:///s") == (
        '{"version": 2, "address": "unix:///s", "protocol": "ttrpc"}'
    )


@pytest.mark.parametrize(
    ("annotations", "group"),
    [
        ("{}", ""),
        ("null", ""),
        ('{"io.kubernetes.cri.sandbox-id": "p"}', "p"),
        ('{"io.containerd.runc.v2.group": "g", "io.kubernetes.cri.sandbox-id": "p"}', "g"),
    ],
)
def test_the_group_of_a_bundle(tmp_path: Path, annotations: str, group: str) -> None:
    (tmp_path / "config.json").write_text(f'{{"annotations": {annotations}}}')
    assert main.group_of(str(tmp_path)) == group


@pytest.mark.parametrize("module", ["hypercontainer.oci.main", "hypercontainer.oci.create"])
def test_runv_loads_nothing_of_containerd(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY[:2] + HEAVY[3:]} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_start_loads_nothing_heavy() -> None:
    code = "import sys, hypercontainer.containerd.shim.main as m, hypercontainer.containerd.shim"
    code += f".address; print([m for m in {HEAVY[:3]} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_socket_is_taken_once(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    first = address.listen(path)
    assert first is not None
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert address.listen(path) is None
    first.close()
    assert not address.is_served(path)
    second = address.listen(path)
    assert second is not None
    second.close()


def test_the_address_in_a_bundle(tmp_path: Path) -> None:
    assert address.read(str(tmp_path)) == ""
    assert address.write(str(tmp_path), "/run/s/x") == "unix:///run/s/x"
    assert address.read(str(tmp_path)) == "/run/s/x"


def given(**fields: Any) -> AnyMessage:
    message = runtime_options_pb2.Options(**fields)
    return AnyMessage(type_url="runtimeoptions.v1.Options", value=message.SerializeToString())


def test_options(tmp_path: Path) -> None:
    file = tmp_path / "runv.toml"
    file.write_text(
        'kernel = "/k"\nmemory = 256\nshare = "virtiofs"\ntemplate = "off"\ncache = 0\n'
    )
    read = options.read(given(config_path=str(file)), "/root")
    assert (read.root, read.kernel, read.memory_mib) == ("/root", "/k", 256)
    assert (read.template, read.cache, read.cpus, read.share) == ("off", 0, 1, "virtiofs")
    assert options.read(AnyMessage(), "/root") == Settings("/root")
    assert options.read(given(config_body=b"cpus = 2"), "/root").cpus == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernal = 1", "unknown option 'kernal': there are kernel, "),
        ("memory = '1G'", "memory: '1G' is no whole number"),
        ("memory = true", "memory: True is no whole number"),
        ("memory = 1", "memory: 1 MiB is too little"),
        ("cpus = 1000", "cpus: 1000 is not between"),
        ("driver = 'bochs'", "driver: 'bochs' is none of"),
        ("share = 'nfs'", "share: 'nfs' is none of"),
        ("template = 'x'", "template: 'x' is none of"),
        ("cache = -1", "cache: -1 is negative"),
        ("[", "not TOML"),
    ],
)
def test_options_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(HyperError, match="runtime's options: ") as refused:
        options.read(given(config_body=text.encode()), "/root")
    assert said in refused.value.message


def test_options_of_others_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"containerd\.runc\.v1\.Options are not runv's"):
        options.read(AnyMessage(type_url="containerd.runc.v1.Options"), "/root")
    with pytest.raises(BadRequest, match="/nowhere: no such file"):
        options.read(given(config_path="/nowhere"), "/root")
    with pytest.raises(BadRequest, match="not a protobuf"):
        options.read(AnyMessage(type_url="runtimeoptions.v1.Options", value=b"\xff"), "/root")


def test_disks_of_root_file_systems(tmp_path: Path) -> None:
    image = tmp_path / "i"
    image.touch()
    mount = types_pb2.Mount(type="ext4", source=str(image), options=["loop", "rw"])
    disk = {"path": str(image), "fstype": "ext4"}
    assert rootfs.prepare([mount], "/none") == rootfs.RootImage({"kind": "disk", **disk}, False)
    layer = types_pb2.Mount(type="erofs", source=str(image), options=["ro"])
    lower = {"path": str(image), "fstype": "erofs"}
    expected = rootfs.RootImage({"kind": "overlay", "lower": [lower]}, True)
    assert rootfs.prepare([layer], "/none") == expected
    for wrong in (
        [mount, layer],
        [types_pb2.Mount(type="ext4", source=str(image), options=["noatime"])],
        [types_pb2.Mount(type="xfs", source=str(image))],
        [types_pb2.Mount(type="ext4", source=str(image), target="/below")],
    ):
        with pytest.raises(NotSupported):
            rootfs.prepare(wrong, str(tmp_path))
    with pytest.raises(BadRequest, match="does not exist"):
        rootfs.prepare([types_pb2.Mount(type="ext4", source="/nowhere")], "/none")
    with pytest.raises(BadRequest, match="leads out"):
        (tmp_path / "out").symlink_to("/")
        rootfs.prepare([types_pb2.Mount(type="bind", source="/", target="/out")], str(tmp_path))


def fifo(path: Path) -> str:
    os.mkfifo(path)
    return str(path)


def test_streams_by_fifo(tmp_path: Path) -> None:
    paths = [fifo(tmp_path / name) for name in ("in", "out", "err")]
    readers = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in paths[1:]]
    io = Stdio(*paths, terminal=False)
    streams = io.open("c", "n")
    assert streams.names == ["stdin", "stdout", "stderr"]
    copies = [os.dup(fd) for fd in streams.fds]
    io.handed_over()
    os.write(copies[1], b"said")
    assert os.read(readers[0], 10) == b"said"
    with pytest.raises(BlockingIOError):
        os.read(copies[0], 1)
    io.close_stdin()
    assert os.read(copies[0], 1) == b""
    for fd in (*copies[1:], copies[0]):
        os.close(fd)
    assert os.read(readers[0], 1) == b""
    io.close()
    for fd in readers:
        os.close(fd)


def test_a_fifo_that_nobody_reads_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.containerd.shim.stdio._READER_BOUND", 0.1)
    out = fifo(tmp_path / "out")
    io = Stdio("", out, "", terminal=False)
    (writer,) = io.open("c", "n").fds
    copy = os.dup(writer)
    io.handed_over()
    os.write(copy, b"for whoever comes later")
    os.close(copy)
    with open(out, "rb") as reader:
        assert os.read(reader.fileno(), 100) == b"for whoever comes later"
        io.close()
        assert reader.read() == b""


def test_a_reader_that_comes_a_little_later(tmp_path: Path) -> None:
    out = fifo(tmp_path / "out")
    said: list[bytes] = []

    def read() -> None:
        time.sleep(0.2)
        with open(out, "rb") as reader:
            said.append(reader.read())

    thread = threading.Thread(target=read)
    thread.start()
    io = Stdio("", out, "", terminal=False)
    (writer,) = io.open("c", "n").fds
    os.write(writer, b"x")
    io.handed_over()
    thread.join(BOUND)
    assert said == [b"x"]
    io.close()


def test_streams_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    for text in (b"one\n", b"two\n"):
        io = Stdio("", f"file://{log}", f"file://{log}", terminal=False)
        streams = io.open("c", "n")
        for fd in streams.fds:
            os.write(fd, text)
        io.close()
    assert log.read_bytes() == b"one\none\ntwo\ntwo\n"


def test_streams_to_a_program(tmp_path: Path) -> None:
    program = tmp_path / "log"
    program.write_text(
        f"#!/bin/sh\nexec 5>&- >{tmp_path}/said\n"
        'echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*"\ncat <&3\ncat <&4\n'
    )
    program.chmod(0o755)
    io = Stdio("", f"binary://{program}?a=b&c=", "", terminal=False)
    streams = io.open("cid", "ns")
    assert streams.names == ["stdout", "stderr"]
    for fd, text in zip(streams.fds, (b"out\n", b"err\n"), strict=True):
        os.write(fd, text)
    io.close()
    assert (tmp_path / "said").read_text() == "cid ns a b c\nout\nerr\n"


@pytest.mark.parametrize(
    ("stdout", "kind"),
    [
        ("npipe://./pipe/x", NotSupported),
        ("relative", BadRequest),
        ("/no/such/fifo", BadRequest),
        ("binary:///no/such/program", BadRequest),
    ],
)
def test_streams_that_are_refused(stdout: str, kind: type[HyperError]) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(kind):
        Stdio("", stdout, "", terminal=False).open("c", "n")
    assert set(os.listdir("/proc/self/fd")) == before


def test_statistics() -> None:
    found = metrics(
        {
            "memory.current": "4096\n",
            "memory.max": "max\n",
            "memory.stat": "anon 5\nfile 6\nunheard_of 7\n",
            "memory.events": "low 0\noom_kill 2\n",
            "cpu.stat": "usage_usec 10\nuser_usec 7\nsystem_usec 3\n",
            "pids.current": "1\n",
            "pids.max": "max\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9\ngarbage\n",
        }
    )
    assert (found.memory.usage, found.memory.usage_limit) == (4096, (1 << 64) - 1)
    assert (found.memory.anon, found.memory.file, found.memory_events.oom_kill) == (5, 6, 2)
    assert (found.cpu.usage_usec, found.pids.current, found.pids.limit) == (10, 1, 0)
    (entry,) = found.io.usage
    assert (entry.major, entry.minor, entry.rbytes, entry.wios) == (8, 0, 1, 4)


def test_statistics_that_a_guest_made_up() -> None:
    for number in ("9" * 20, "9" * 5000, "²", "-1"):
        files = {"memory.current": number, "cpu.stat": f"usage_usec {number}\nx", "io.stat": "\n:"}
        assert metrics(files).memory.usage == 0
        assert metrics(files).cpu.usage_usec == 0


def test_what_delete_answers_is_a_protobuf() -> None:
    before = time.time()
    answer = shim_task_pb2.DeleteResponse.FromString(cleanup.response())
    assert (answer.exit_status, answer.pid) == (137, 0)
    at = answer.exited_at
    assert before - 1e-6 <= at.seconds + at.nanos / 1e9 <= time.time() + 1e-6
