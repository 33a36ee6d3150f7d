"""Logs: drivers with real receivers, rotation, what is written while hyperd is away."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd, wait_until

pytestmark = pytest.mark.timeout(120)

JOURNALD = Path("/lib/systemd/systemd-journald")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A syslog by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(30)
        yield listener


def test_syslog_and_files_go_on_without_hyperd(
    own_hyperd: Hyperd, receiver: socket.socket, tmp_path: Path
) -> None:
    hyperd, hyper = own_hyperd, Hyper(own_hyperd.socket)
    hyperd.end()
    prefix = tmp_path / "logs"
    port = receiver.getsockname()[1]
    hyperd.config.write_text(
        f"Logger = syslog\n[Log]\nPodLogPrefix = {prefix}\n"
        f"syslog-address = udp://127.0.0.1:{port}\ntag = {{{{.Name}}}}/{{{{.ID}}}}\n"
    )
    hyperd.start()
    script = "echo up; while [ ! -e /go ]; do sleep 0.1; done; echo alone; sleep 1; echo last >&2"
    cid = hyper.text("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    first = receiver.recv(2000)
    assert first.startswith(b"<30>") and f" box/{cid[:12]}[".encode() in first
    assert first.endswith(b": up")
    hyper.text("exec", "-d", "box", "sh", "-c", "sleep 1.5; touch /go")
    hyperd.end(signal.SIGKILL)
    assert receiver.recv(2000).endswith(b": alone")
    last = receiver.recv(2000)
    assert last.startswith(b"<27>") and last.endswith(b": last")
    hyperd.start()
    assert hyper.text("wait", "box") == "0"
    done = hyper("logs", "box")
    assert (done.stdout, done.stderr) == (b"up\nalone\n", b"last\n")
    assert [p.name for p in (prefix / "box").iterdir()] == [f"{cid}-json.log"]
    config = hyperd.client.inspect_container("box")["HostConfig"]["LogConfig"]
    assert config["Type"] == "syslog" and config["Config"]["tag"] == "{{.Name}}/{{.ID}}"
    hyper.text("rm", "box")
    assert not list(prefix.iterdir())
    hyperd.nothing_left()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A systemd-journald in a mount namespace of its own."""
    if not JOURNALD.exists():
        pytest.skip("systemd-journald is not installed")
    for directory in ("/run/systemd", "/run/log"):
        Path(directory).mkdir(exist_ok=True)
    script = (
        "mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs tmpfs /run/log"
        f" && mkdir /run/systemd/journal /run/log/journal && exec {JOURNALD}"
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stderr=subprocess.DEVNULL
    )
    socket = Path(f"/proc/{process.pid}/root/run/systemd/journal/socket")
    try:
        wait_until(lambda: process.poll() is None and socket.exists(), "the journal")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_the_journal(journal: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    enter = ["nsenter", f"--mount=/proc/{journal.pid}/ns/mnt"]

    class Inside(Hyperd):
        def command(self, *flags: str) -> list[str]:
            return [*enter, "--", *super().command(*flags)]

    hyperd = Inside(tmp_path)
    try:
        hyperd.start()
        hyperd.load_image()
        hyper = Hyper(hyperd.socket)
        options = ("--log-driver=journald", "--log-opt", "tag=t-{{.Name}}", "--log-opt=labels=from")
        cid = hyper.text(
            "run", "-d", *options, "--name=box", "busybox", "sh", "-c", "echo hi; ls /x"
        )
        assert hyper.text("wait", "box") == "1"

        def entries() -> list[dict[str, str]]:
            show = ["journalctl", "--no-pager", "-o", "json", "CONTAINER_NAME=box"]
            output = subprocess.run([*enter, *show], capture_output=True, timeout=20).stdout
            return [json.loads(line) for line in output.splitlines()]

        wait_until(lambda: len(entries()) == 2, "the journal's entries")
        out, error = sorted(entries(), key=lambda e: e["PRIORITY"], reverse=True)
        assert (out["MESSAGE"], out["PRIORITY"], error["PRIORITY"]) == ("hi", "6", "3")
        assert "No such file" in error["MESSAGE"]
        assert (out["CONTAINER_ID"], out["CONTAINER_ID_FULL"]) == (cid[:12], cid)
        assert (out["SYSLOG_IDENTIFIER"], out["IMAGE_NAME"]) == ("t-box", "busybox")
        assert out["FROM"] == "image"
        assert hyper("logs", "--details", "box").stdout == b"from=image,tag=t-box hi\n"
    finally:
        hyperd.close()


def test_rotated_files_are_read_and_followed(hyperd: Hyperd) -> None:
    hyper = Hyper(hyperd.socket)
    script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; sleep 0.5; echo end"
    options = ("--log-opt=max-size=20k", "--log-opt=max-file=5", "--log-opt=env=A", "-eA=x y")
    hyper.text("create", *options, "--name=many", "busybox", "sh", "-c", script)
    hyper.text("start", "many")
    lines = [*(f"line {n}" for n in range(400)), "end"]
    assert hyper.text("logs", "-f", "many").splitlines() == lines
    assert hyper.text("logs", "many").splitlines() == lines
    log = Path(hyperd.client.inspect_container("many")["LogPath"])
    assert len(list(log.parent.glob("*-json.log*"))) > 2
    assert hyper.text("logs", "-f", "--tail=300", "many").splitlines() == lines[-300:]
    assert hyper.text("logs", "--details", "-n1", "many") == "A=x%20y end"
    stamp, _ = hyper.text("logs", "-t", "--tail=1", "many").split()
    assert hyper.text("logs", "--since", stamp, "many") == "end"
    assert hyper.text("logs", "--until", "10m", "many") == ""
    assert hyper.text("logs", "--until", stamp, "-n2", "many").splitlines() == lines[-2:]
    hyper.text("rm", "many")


def test_what_is_refused(hyperd: Hyperd, tmp_path: Path) -> None:
    hyper = Hyper(hyperd.socket)
    done = hyper("run", "--log-driver", "fluentd", "busybox", "true")
    assert done.returncode == 125 and b"log driver fluentd is not supported" in done.stderr
    done = hyper("run", "--log-opt", "max-sise=1m", "busybox", "true")
    assert done.returncode == 125 and b"log.config.max-sise: json-file has no such" in done.stderr
    address = f"--log-opt=syslog-address=unixgram://{tmp_path}/none"
    done = hyper("run", "--rm", "--log-driver=syslog", address, "busybox", "true")
    assert done.returncode == 125
    assert b"none: no such file or directory: start it, or use another log driver" in done.stderr
    hyperd.nothing_left()
    done = hyper("run", "--log-driver=none", "--name=mute", "busybox", "echo", "said")
    assert (done.returncode, done.stdout) == (0, b"said\n")
    done = hyper("logs", "mute")
    assert done.returncode == 1 and b"container mute keeps no log: its log driver is none" in (
        done.stderr
    )
    hyper.text("rm", "mute")
