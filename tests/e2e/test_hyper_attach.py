"""Attaching: what was written before, keys that detach, execs taken up again."""

import json
import signal
import time
from collections.abc import Iterator

import pytest

from hypercontainer.client.streams import RawStream
from hypercontainer.errors import BadRequest, HyperError, NotFound
from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)

SHELL = "echo ready; while read line; do echo got $line; done"


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


def test_what_was_written_before_comes_first_and_once(hyper: Hyper, hyperd: Hyperd) -> None:
    hyper.text("run", "-di", "--name=told", "busybox", "sh", "-c", f"echo -n begun; {SHELL}")
    until(lambda: hyper("logs", "told").stdout == b"begunready\n")
    writer = hyperd.client.attach("told", stdin=True)
    writer.write(b"1\n2\n")
    until(lambda: hyper("logs", "told").stdout.endswith(b"got 2\n"))
    with hyperd.client.attach("told", stdin=True, logs=True) as stream:
        output = stream.output()
        seen = b""
        while not seen.endswith(b"got 2\n"):
            seen += next(output)[1]
        assert seen == b"begunready\ngot 1\ngot 2\n"
        stream.write(b"3\n")
        stream.close_stdin()
        rest = b"".join(data for _, data in output)
    assert rest == b"got 3\n"
    writer.close()
    assert hyper.text("wait", "told") == "0"
    response = hyperd.client._http.request(
        "POST", "/attach", {"container": "told", "logs": True, "stream": False}, upgrade=True
    )
    with response.hijack() as stream:
        assert b"".join(d for _, d in stream.output()) == seen + rest
    hyper.text("rm", "told")


def test_an_unfinished_line_is_not_lost(hyper: Hyper, hyperd: Hyperd) -> None:
    script = "echo whole; echo -n half; read x; echo $x"
    hyper.text("run", "-di", "--name=half", "busybox", "sh", "-c", script)
    until(lambda: hyper("logs", "half").stdout == b"whole\n")
    with hyperd.client.attach("half", stdin=True, logs=True) as stream:
        output = stream.output()
        seen = b""
        while not seen.endswith(b"half"):
            seen += next(output)[1]
        stream.write(b"!\n")
        seen += b"".join(data for _, data in output)
    assert seen == b"whole\nhalf!\n"
    hyper.text("rm", "-f", "half")


def test_detach_keys_of_hyper(hyper: Hyper) -> None:
    terminal = hyper.on_terminal(
        "run", "-it", "--name=tty", "--detach-keys=ctrl-x,d", "busybox", "sh", "-c", SHELL
    )
    try:
        terminal.expect(b"ready")
        terminal.send(b"\x10\x18one\n")
        terminal.expect(b"got \x10\x18one")
        terminal.send(b"\x18d")
        terminal.expect(b"read escape sequence")
        assert terminal.end() == 0
    finally:
        terminal.close()
    terminal = hyper.on_terminal("attach", "--logs", "tty")
    try:
        terminal.expect(b"ready")
        terminal.expect(b"one")
        terminal.send(b"two\n")
        terminal.expect(b"got two")
        terminal.send(b"\x10\x11")
        terminal.expect(b"read escape sequence")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert hyper.text("list", "-q") != ""
    bad = hyper("attach", "--detach-keys=ctrl-xx", "tty")
    assert bad.returncode == 125 and b"'ctrl-xx' is neither a character nor ctrl-" in bad.stderr
    hyper.text("rm", "-f", "tty")


def _output_to(stream: RawStream, text: bytes) -> Iterator[bytes]:
    """Read the output of a terminal up to a text; what comes after it."""
    output = (data for _, data in stream.output(tty=True))
    seen = b""
    while text not in seen:
        seen += next(output)
    return output


def test_detach_keys_of_the_api_and_an_exec_taken_up_again(hyper: Hyper, hyperd: Hyperd) -> None:
    client = hyperd.client
    begun = time.time()
    hyper.text("run", "-dit", "--name=api", "busybox", "sh", "-c", SHELL)
    with client.attach("api", stdin=True, detach_keys="ctrl-a") as stream:
        stream.write(b"x\n")
        output = _output_to(stream, b"got x")
        stream.write(b"\x01lost")
        assert b"lost" not in b"".join(output)
    exec_id = client.create_exec("api", ["sh", "-c", SHELL], tty=True, stdin=True)
    with pytest.raises(BadRequest, match="was not started: use /exec/start"):
        client.attach("api", exec_id=exec_id)
    with pytest.raises(BadRequest, match="detach keys: 'alt-x' is neither"):
        client.start_exec("api", exec_id, detach_keys="alt-x")
    with client.start_exec("api", exec_id) as stream:
        stream.write(b"y\n")
        output = _output_to(stream, b"got y")
        stream.write(b"\x10\x11")
        assert not b"".join(output).strip()
    with client.attach("api", exec_id=exec_id, stdin=True) as stream:
        stream.write(b"z\n\x04")
        assert b"got z" in b"".join(data for _, data in stream.output(tty=True))
    assert client.wait("api", exec_id) == 0
    with pytest.raises(HyperError):
        client.attach("api", exec_id=exec_id)
    assert hyperd.state_of("api")["Running"]
    lines = hyper.text(
        *("events", "--since", f"{begun:.6f}", "--until", "0s", "--format", "json"),
        *("--filter", "event=attach", "--filter", "event=detach"),
    ).splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["attach", "detach"]
    hyper.text("rm", "-f", "api")


def test_execs_outlive_hyperd(own_hyperd: Hyperd) -> None:
    hyperd, client = own_hyperd, own_hyperd.client
    hyperd.run("sleep", "1000", name="box")
    over = client.create_exec("box", ["sh", "-c", "exit 3"], detach=True)
    client.start_exec_detached("box", over)
    assert client.wait("box", over) == 3
    meanwhile = client.create_exec("box", ["sh", "-c", "read x < /go; exit 4"], detach=True)
    assert hyperd.execute("box", "mkfifo", "/go") == (0, "")
    client.start_exec_detached("box", meanwhile)
    goes_on = client.create_exec("box", ["sh", "-c", SHELL], tty=True, stdin=True)
    with client.start_exec("box", goes_on) as stream:
        stream.write(b"before\n")
        _output_to(stream, b"got before")
        hyperd.end(signal.SIGKILL)
    hyperd.start()

    info = client._get("/exec/info", {"exec": goes_on})
    assert (info["Running"], info["ExitCode"], info["OpenStdin"]) == (True, None, True)
    assert info["ProcessConfig"] == {"entrypoint": "sh", "arguments": ["-c", SHELL], "tty": True}
    with client.attach("box", exec_id=goes_on, stdin=True) as stream:
        stream.write(b"after\n")
        _output_to(stream, b"got after")
        stream.write(b"\x04")
        assert client.wait("box", goes_on) == 0
    assert client.wait("box", over) == 3
    assert hyperd.execute("box", "sh", "-c", "echo > /go") == (0, "")
    assert client.wait("box", meanwhile) == 4
    for unknown in ("exec-nonesuch", "init", "../x"):
        with pytest.raises(NotFound, match="no such exec"):
            client.wait("box", unknown)
    client.remove_container("box", force=True)
    hyperd.nothing_left()
