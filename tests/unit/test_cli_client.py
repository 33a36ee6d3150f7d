"""The client against real sockets: refusals, garbage, early ends, hijacked connections."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer import Client
from hypercontainer.cli.main import main
from hypercontainer.client.transport import Address, DaemonUnavailable
from hypercontainer.errors import BadRequest, HyperError, NotFound, ProgramError


@pytest.mark.parametrize(
    "text",
    ["", "x", "unix://rel/path", "unix:", "tcp://host", "tcp://:1", "tcp://h:99999", "http://h:1"],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadRequest, match="expected unix:///path or tcp://host:port"):
        Address(text)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPER_HOST", "tcp://[::1]:80")
    assert (Address.of(None).host, Address.of(None).port) == ("::1", 80)
    assert Address.of("unix:///run/x.sock").path == "/run/x.sock"
    monkeypatch.delenv("HYPER_HOST")
    assert Address.of(None).path == "/var/run/hyper.sock"


@contextmanager
def server(
    tmp_path: Path, answer: bytes, then: Callable[[socket.socket], None] | None = None
) -> Iterator[tuple[Client, list[bytes]]]:
    """Answers one request with given bytes."""
    requests: list[bytes] = []
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(20)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                requests.append(connection.recv(65536))
                connection.sendall(answer)
                if then:
                    then(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(f"unix://{path}"), requests
        thread.join(20)


def response(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_request_and_parameters(tmp_path: Path) -> None:
    with server(tmp_path, response("200 OK", b"[]")) as (client, requests):
        assert client.list_containers(all=True) == []
    assert requests[0].startswith(b"GET /v1.17/containers?all=1 HTTP/1.1\r\n")


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    body = b'{"code": "not_found", "message": "no such container: x"}'
    with (
        server(tmp_path, response("404 Not Found", body)) as (client, _),
        pytest.raises(NotFound, match="no such container: x"),
    ):
        client.inspect_container("x")


def test_exit_codes_of_programs_come_back(tmp_path: Path) -> None:
    body = b'{"code": "program", "message": "exec: no", "exit_code": 127}'
    with server(tmp_path, response("400 Bad Request", body)) as (client, _):
        with pytest.raises(ProgramError) as caught:
            client.start_pod("x")
        assert caught.value.exit_code == 127


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection during GET /version"),
        (b"garbage\r\n\r\n", "closed the connection during GET /version"),
        (response("200 OK", b"no json"), "did not answer GET /version with JSON"),
        (response("200 OK", b"[]"), "list instead of an object"),
        (response("500 Oops", b"plain text\nmore"), "hyperd answered 500: plain text"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "closed the connection"),
    ],
)
def test_bad_answers(tmp_path: Path, answer: bytes, message: str) -> None:
    with server(tmp_path, answer) as (client, _), pytest.raises(HyperError, match=message):
        client.version()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnavailable, match="no such file") as missing:
        Client(f"unix://{tmp_path}/none").ping()
    assert missing.value.missing
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    with pytest.raises(DaemonUnavailable, match="refused"):
        Client(f"unix://{tmp_path}/stale").ping()


def test_hijack_with_output_in_the_same_packet(tmp_path: Path) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    def then(connection: socket.socket) -> None:
        assert connection.recv(100) == b"in"
        assert connection.recv(100) == b""
        connection.sendall(b" and late")

    with (
        server(tmp_path, head + b"early", then) as (client, requests),
        client.attach("c", stdin=True) as stream,
    ):
        stream.write(b"in")
        stream.close_stdin()
        data = b"".join(part for _, part in stream.output(tty=True))
    assert data == b"early and late"
    assert b"Upgrade: tcp\r\n" in requests[0]


def test_hijack_refused(tmp_path: Path) -> None:
    body = b'{"code": "bad_state", "message": "container c is not running"}'
    with (
        server(tmp_path, response("412 Precondition Failed", body)) as (client, _),
        pytest.raises(HyperError, match="is not running"),
    ):
        client.start_exec("c", "e")


def test_progress_that_ends_in_an_error(tmp_path: Path) -> None:
    detail = b'{"code": "not_found", "message": "no such image: x"}'
    lines = (
        b'{"status": "Pulling"}\n{"error": "no such image: x", "errorDetail": ' + detail + b"}\n"
    )
    with server(tmp_path, response("200 OK", lines)) as (client, _):
        progress = client.pull("x")
        assert next(progress) == {"status": "Pulling"}
        with pytest.raises(NotFound, match="no such image: x"):
            next(progress)


def test_version_without_hyperd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-H", f"unix://{tmp_path}/none", "version", "--format", "json"]) == 1
    captured = capsys.readouterr()
    assert '"server": null' in captured.out
    assert captured.err.startswith("hyper: cannot connect to hyperd at unix://")
