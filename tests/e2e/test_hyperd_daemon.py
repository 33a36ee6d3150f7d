"""hyperd as a process: background, locks, sockets, listeners, wrong requests."""

import http.client
import json
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.client import Client
from hypercontainer.daemon.config import Config
from tests.e2e.hyperd_process import COMMAND, Hyperd, wait_until

pytestmark = pytest.mark.timeout(90)


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_second_hyperd_is_refused(hyperd: Hyperd) -> None:
    assert hyperd.process is not None
    for flags in ((), ("--nondaemon",)):
        second = run(*hyperd.command(*flags))
        assert second.returncode == 1
        assert f"another hyperd (pid {hyperd.process.pid}) uses the root {hyperd.root}" in (
            second.stderr
        )
    other_root = hyperd.root.parent / "other"
    second = run(*COMMAND, f"--root={other_root}", f"--state={hyperd.state}", "--socket=/run/x")
    assert second.returncode == 1
    assert f"uses the state {hyperd.state}" in second.stderr
    second = run(*COMMAND, f"--root={other_root}", f"--socket={hyperd.socket}")
    assert second.returncode == 1
    assert f"hyperd: listen on {hyperd.socket}: another daemon answers there" in second.stderr
    hyperd.client.ping()
    own_state = Config(root=other_root).state_dir
    assert own_state.parent == Path("/run/hyper")
    assert not own_state.exists()


def test_background_stale_socket_and_end(own_hyperd: Hyperd) -> None:
    hyperd = own_hyperd
    hyperd.end(signal.SIGKILL)
    assert hyperd.socket.exists(), "what a killed daemon leaves"
    started = run(*hyperd.command())
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    hyperd.client.ping()
    assert stat.S_IMODE(hyperd.socket.stat().st_mode) == 0o600
    pid = int((hyperd.root / "hyperd.lock").read_text())
    assert "hyperd answers on" in (hyperd.root / "hyperd.log").read_text()
    subprocess.run(["kill", str(pid)], check=True, timeout=10)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    assert not hyperd.socket.exists()


def test_the_end_waits_for_no_client(own_hyperd: Hyperd) -> None:
    container = own_hyperd.create("true")
    with own_hyperd.client.attach(container) as stream:
        assert own_hyperd.end() == 0
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("text", "says"),
    [("\nRot = /x\n", ":2: unknown key Rot"), ("Accel = x", ":1: Accel: 'x' is none of")],
)
def test_a_wrong_configuration(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config").write_text(text)
    refused = run(*COMMAND, f"--config={tmp_path}/config", f"--root={tmp_path}/root")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"hyperd: {tmp_path}/config{says}")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "root").exists()


def request(
    hyperd: Hyperd, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(20)
    connection.sock.connect(str(hyperd.socket))
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nope", None, 404, "no_such_route"),
        ("GET", "/v1.40/nope", None, 404, "no_such_route"),
        ("PUT", "/info", None, 405, "no_such_method"),
        ("POST", "/pod/create", b"{", 400, "bad_request"),
        ("POST", "/pod/create", b"[]", 400, "bad_request"),
        ("POST", "/pod/create", b"[" * 100_000, 400, "bad_request"),
        ("POST", "/pod/create", b"x" * (5 << 20), 413, "too_large"),
        ("POST", "/pod/start", None, 400, "bad_request"),
        ("POST", "/pod/start?podId=none", None, 404, "not_found"),
        ("GET", "/container/json?container=none", None, 404, "not_found"),
        ("POST", "/attach?container=none", None, 400, "bad_request"),
        ("GET", "/exitcode?container=none", None, 404, "not_found"),
        ("GET", "/containers?al=1", None, 400, "bad_request"),
        ("GET", "/list?item=house", None, 400, "bad_request"),
    ],
)
def test_wrong_requests(
    hyperd: Hyperd, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    answer, error = request(hyperd, method, path, body)
    assert (answer, error["code"]) == (status, code)
    assert "\n" not in error["message"]


def test_a_takeover_is_refused_before_it_happens(hyperd: Hyperd) -> None:
    status, error = request(
        hyperd, "POST", "/attach?container=none", Connection="Upgrade", Upgrade="tcp"
    )
    assert (status, error["message"]) == (404, "no such container: none")


def test_web_pages_are_refused(hyperd: Hyperd) -> None:
    assert request(hyperd, "GET", "/info", Origin="http://evil.example")[0] == 400


def test_system_routes_and_original_lists(hyperd: Hyperd) -> None:
    container = hyperd.create("true", name="listed")
    version = hyperd.client.version()
    assert {"version", "api_version", "kernel", "accel", "qemu", "python", "os"} <= set(version)
    info = hyperd.client.info()
    assert (info["Pods"], info["Images"], info["Containers"]) == (1, 1, 1)
    assert request(hyperd, "GET", "/list")[1]["podData"] == ["listed:listed::pending"]
    lines = request(hyperd, "GET", "/v1.1.0/list?item=container")[1]["cData"]
    assert lines == [f"{container}:/listed:listed:pending"]
    assert request(hyperd, "GET", "/list?item=vm")[1]["vmData"] == []
    (line,) = request(hyperd, "GET", "/images/get")[1]["imagesList"]
    assert line.startswith("busybox:latest:sha256:")
    assert hyperd.client.pod_info("listed")["status"]["phase"] == "Pending"
    status, error = request(hyperd, "GET", f"/exitcode?container={container}&timeout=1")
    assert (status, error["code"]) == (504, "timeout")
    hyperd.client.remove_pod("listed")


def test_tcp_on_loopback(own_hyperd: Hyperd) -> None:
    own_hyperd.end()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own_hyperd.config.write_text(f"Host = tcp://127.0.0.1:{port}\n")
    own_hyperd.start()
    Client(f"tcp://127.0.0.1:{port}").ping()
    refused = run(*own_hyperd.command("--host=tcp://0.0.0.0:1"))
    assert refused.returncode == 2
    assert "--insecure_host" in refused.stderr


def test_requests_that_are_too_large_are_refused(hyperd: Hyperd) -> None:
    many = {f"x-{number}": "1" for number in range(100)}
    status, answer = request(hyperd, "GET", "/info", None, **many)
    assert (status, answer["code"]) == (431, "too_many_headers")
    # The parser refuses these before there is a request that could be answered in JSON.
    for path, headers in (("/info", {"x": "a" * 20_000}), ("/info?" + "a" * 20_000, {})):
        with pytest.raises(json.JSONDecodeError):
            request(hyperd, "GET", path, None, **headers)
    assert request(hyperd, "POST", "/pod/create", b" " * (5 << 20))[0] == 413
    assert request(hyperd, "GET", "/info")[0] == 200
