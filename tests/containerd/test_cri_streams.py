"""What kubectl's logs, exec, attach and port-forward stand on."""

import re
import signal
from typing import Any

import pytest

from tests.containerd.cri import CRI, Pod
from tests.containerd.cri_streaming import STDIN, STDOUT, Ended, Stream, streaming
from tests.engines.commands import until


@pytest.fixture
def pod(cri: CRI) -> Pod:
    return cri.pod()


def test_exec_sync(pod: Pod) -> None:
    box = pod.run("box", "sleep", "1000")
    done = box.exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)


def test_exec_sync_with_a_time_out(pod: Pod) -> None:
    """As of a liveness probe; nothing of it stays."""
    box = pod.run("box", "sleep", "1000")
    with pytest.raises(Exception, match=r"(?i)deadline|timeout"):
        box.exec("sleep", "999", timeout=1)
    until(lambda: "sleep 999" not in box.said("ps"), "the end of the program")


def test_streamed_exec(pod: Pod) -> None:
    box = pod.run("box", "sleep", "1000")
    done = box.stream("sh", "-c", "read line; echo got $line; echo err >&2; exit 5", stdin=b"it\n")
    assert (done.out, done.err, done.code) == (b"got it\n", b"err\n", 5)
    much = box.stream("sh", "-c", "head -c 3000000 /dev/zero")
    assert (len(much.out), much.code) == (3000000, 0)


def test_streamed_exec_without_stdin(pod: Pod) -> None:
    """Known trouble 15: such a session was closed after the first output."""
    box = pod.run("box", "sleep", "1000")
    done = box.stream("sh", "-c", "for i in 1 2 3; do echo $i; sleep 1; done")
    assert (done.out, done.code) == (b"1\n2\n3\n", 0)


def test_exec_on_a_terminal(cri: CRI, pod: Pod) -> None:
    box = pod.run("box", "sleep", "1000")
    options: dict[str, Any] = {"tty": True, "stdin": True, "stdout": True, "container_id": box.id}
    url = cri.call("Exec", cmd=["sh"], **options).url

    async def work(stream: Stream) -> Ended:
        await stream.resize(41, 131)
        await stream.read_until(STDOUT, b"# ")
        for _ in range(50):
            await stream.send(STDIN, b"stty size; echo so\n")
            if b"41 131" in await stream.read_until(STDOUT, b"so\r\n"):
                break
        else:
            raise AssertionError("no resize")
        await stream.send(STDIN, b"tty; exit 6\n")
        return await stream.rest()

    done = streaming(cri.namespace, url, work)
    assert b"/dev/pts/0" in done.out
    assert done.code == 6


def test_attach(cri: CRI, pod: Pod) -> None:
    program = "while read line; do echo got $line; done"
    box = pod.run("box", "sh", "-c", program, stdin=True)
    url = cri.call("Attach", container_id=box.id, stdin=True, stdout=True, stderr=True).url

    async def work(stream: Stream) -> bytes:
        await stream.send(STDIN, b"one\n")
        return await stream.read_until(STDOUT, b"got one\n")

    assert streaming(cri.namespace, url, work) == b"got one\n"
    assert ("stdout", "F", "got one") in box.lines()


def test_logs(cri: CRI, pod: Pod) -> None:
    program = "echo out; sleep 1; echo err >&2; sleep 1; printf '%20000d\\n' 0; exec sleep 1000"
    box = pod.run("box", "sh", "-c", program)
    until(lambda: box.log.exists() and len(box.lines()) >= 4, "the log")
    lines = box.lines()
    assert lines[:2] == [("stdout", "F", "out"), ("stderr", "F", "err")]
    assert [line[:2] for line in lines[2:]] == [("stdout", "P"), ("stdout", "F")]
    assert len(lines[2][2] + lines[3][2]) == 20000
    first = box.log.read_text().split(" ", 1)[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)", first)


def test_rotated_logs(cri: CRI, pod: Pod) -> None:
    box = pod.run("box", "sh", "-c", "while :; do echo tick; sleep 0.2; done")
    until(lambda: box.log.exists() and box.lines(), "the log")
    box.log.rename(f"{box.log}.1")
    cri.call("ReopenContainerLog", container_id=box.id)
    until(lambda: box.log.exists() and box.lines(), "the new log")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "[::1]"])
def test_port_forward(pod: Pod, address: str) -> None:
    """It leads to the loopback of the pod, which is the machine's."""
    server = (
        f"mkdir /www; head -c 2000000 /dev/zero > /www/f; exec httpd -f -h /www -p {address}:80"
    )
    box = pod.run("box", "sh", "-c", server)
    until(lambda: ":0050 " in box.said("cat", "/proc/net/tcp", "/proc/net/tcp6"), "the server")
    answer = pod.forward(80, b"GET /f HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
    assert len(body) == 2000000


def test_port_forward_to_nobody(pod: Pod) -> None:
    with pytest.raises(ConnectionError, match="connection reset"):
        pod.forward(81, b"hello")


def test_an_echo_by_port_forward(cri: CRI, pod: Pod) -> None:
    """Both ways at once, and again and again."""
    box = pod.run("box", "sh", "-c", "exec nc -ll -p 7 -e cat")
    until(lambda: ":0007 " in box.said("cat", "/proc/net/tcp", "/proc/net/tcp6"), "the server")
    for number in range(5):
        url = cri.call("PortForward", pod_sandbox_id=pod.id, port=[7]).url
        text = b"%d" % number * 1000

        async def work(stream: Stream, text: bytes = text) -> bytes:
            await stream.send(0, text)
            return await stream.read_until(0, text[-500:])

        assert streaming(cri.namespace, f"{url}?port=7", work).endswith(text)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_pods_outlive_containerd(cri: CRI, pod: Pod, signum: int) -> None:
    box = pod.run("box", "sh", "-c", "while :; do echo tick; sleep 0.2; done")
    boot = box.said("cat", "/proc/sys/kernel/random/boot_id")
    cri.restart(signum)
    assert box.state() == "CONTAINER_RUNNING"
    assert box.said("cat", "/proc/sys/kernel/random/boot_id") == boot
    before = len(box.lines())
    until(lambda: len(box.lines()) > before, "the log goes on")
    assert box.stream("echo", "it").out == b"it\n"
