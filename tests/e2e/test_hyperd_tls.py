"""TLS with client certificates on TCP: streams, and what is refused, in one line each."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer import Client
from hypercontainer.client import TLS, DaemonUnavailable
from hypercontainer.errors import BadRequest
from tests.certificates import Authority
from tests.e2e.command_line import HYPER
from tests.e2e.hyperd_process import COMMAND, Hyperd
from tests.registry import free_port

pytestmark = pytest.mark.timeout(120)


class Secured:
    """A hyperd that listens by TLS, and the files of those who know it and who don't."""

    def __init__(self, folder: Path, hyperd: Hyperd) -> None:
        self.hyperd = hyperd
        self.host = f"tcp://127.0.0.1:{free_port()}"
        self.authority = Authority(folder / "authority")
        self.other = Authority(folder / "other")
        self.server = self.authority.sign(folder / "server")
        self.mine = self.authority.sign(folder / "mine", "DNS:me")
        self.expired = self.authority.sign(folder / "expired", "DNS:me", expired=True)
        self.foreign = self.other.sign(folder / "foreign", "DNS:me")
        self.flags = (
            f"--tlscert={self.server}/cert.pem",
            f"--tlskey={self.server}/key.pem",
            f"--tlscacert={self.authority.certificate}",
            "--tlsverify",
        )

    def hyper(
        self, *arguments: str, input: bytes | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """Call `hyper` with our certificate."""
        ours = {"HYPER_HOST": self.host, "HYPER_TLS_VERIFY": "1", "HYPER_CERT_PATH": str(self.mine)}
        return subprocess.run(
            [str(HYPER), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=60,
            env={**os.environ, **ours, **environment},
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    hyperd = Hyperd(folder)
    made = Secured(folder, hyperd)
    try:
        hyperd.start(f"--host={made.host}", *made.flags)
        hyperd.load_image()
        yield made
    finally:
        hyperd.close()


def test_streams_end_and_come_whole(secured: Secured) -> None:
    data = os.urandom(1 << 20)
    done = secured.hyper("run", "-i", "--rm", "busybox", "cat", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    done = secured.hyper("run", "-i", "--rm", "busybox", "sh", "-c", "exec cat", input=b"x\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")
    client = Client(secured.host, TLS.of_directory(str(secured.mine)))
    with client.create("busybox", ["sleep", "1000"]) as box:
        box.start()
        result = box.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input=data)
        assert (result.exit_code, result.stdout, result.stderr) == (3, data, b"err\n")
        done = secured.hyper("exec", box.id, "sh", "-c", "head -c 3000000 /dev/zero; exit 7")
        assert (done.returncode, done.stdout) == (7, bytes(3000000))
        exec_id = client.create_exec(box.id, ["cat"], stdin=True)
        with client.start_exec(box.id, exec_id) as stream:
            stream.write(b"there")
            assert next(stream.output()) == (1, b"there")
        assert client.wait(box.id, exec_id, timeout=60) == 0, "leaving is the end of its stdin"
    assert client.run("busybox", ["sleep", "1000"], timeout=0.5).timed_out
    secured.hyperd.nothing_left()


def test_flags_in_place_of_variables(secured: Secured) -> None:
    flags = (
        *("--tlsverify", f"--tlscacert={secured.authority.certificate}"),
        *(f"--tlscert={secured.mine}/cert.pem", f"--tlskey={secured.mine}/key.pem"),
    )
    done = secured.hyper(*flags, "list", HYPER_TLS_VERIFY="", HYPER_CERT_PATH="/nowhere")
    assert done.returncode == 0
    refused = secured.hyper("-H", "unix:///run/x.sock", "--tlsverify", "list")
    assert refused.stderr == (
        b"hyper: TLS is for tcp://HOST:PORT, and hyperd is at unix:///run/x.sock\n"
    )


def test_clients_that_are_refused(secured: Secured) -> None:
    ca = str(secured.authority.certificate)

    def refusal(tls: TLS | None, host: str = secured.host) -> str:
        with pytest.raises(DaemonUnavailable) as error:
            Client(host, tls).info()
        assert error.value.message.startswith(f"cannot connect to hyperd at {host}: ")
        assert "\n" not in error.value.message
        return error.value.message

    def own(directory: Path, authority: str = ca) -> TLS:
        return TLS(authority, f"{directory}/cert.pem", f"{directory}/key.pem")

    assert "does it want a client certificate" in refusal(TLS(ca))
    assert re.search("expired", refusal(own(secured.expired)))
    assert re.search(r"certificate .*foreign.*signed by its CA", refusal(own(secured.foreign)))
    other = str(secured.other.certificate)
    assert f"not signed by {other}" in refusal(own(secured.mine, other))
    named = secured.host.replace("127.0.0.1", "localhost")
    assert "its certificate is not for localhost" in refusal(own(secured.mine), named)
    assert "does it want TLS?" in refusal(None)
    with pytest.raises(BadRequest, match="its key belong together"):
        TLS(ca, "x")
    with pytest.raises(BadRequest, match="/nowhere: no such file"):
        Client(secured.host, TLS("/nowhere")).info()
    insecure = own(secured.mine, "")
    insecure.verify = False
    assert Client(secured.host, insecure).info()


def test_a_hyperd_whose_certificate_has_expired_and_ipv6(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server = authority.sign(tmp_path / "server", expired=True)
    hyperd = Hyperd(tmp_path)
    port = free_port()
    tls = TLS(str(authority.certificate))
    files = (f"--tlscert={server}/cert.pem", f"--tlskey={server}/key.pem")
    try:
        hyperd.start(f"--host=tcp://[::1]:{port}", *files)
        with pytest.raises(DaemonUnavailable, match="its certificate has expired"):
            Client(f"tcp://[::1]:{port}", tls).ping()
        hyperd.end()
        good = authority.sign(tmp_path / "good")
        hyperd.start(
            f"--host=tcp://[::1]:{port}", f"--tlscert={good}/cert.pem", f"--tlskey={good}/key.pem"
        )
        Client(f"tcp://[::1]:{port}", tls).ping()
        hyperd.end()
        hyperd.start(f"--host=tcp://[::1]:{port}")
        with pytest.raises(DaemonUnavailable, match="it does not speak TLS"):
            Client(f"tcp://[::1]:{port}", tls).ping()
    finally:
        hyperd.close()


def test_settings_that_are_refused(secured: Secured, tmp_path: Path) -> None:
    cert, key, ca = (f"{secured.server}/{name}" for name in ("cert.pem", "key.pem", "ca.pem"))
    host = f"--host=tcp://127.0.0.1:{free_port()}"
    other_key = f"{secured.mine}/key.pem"
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    damaged = tmp_path / "damaged"
    damaged.write_text(Path(cert).read_text().replace("M", "N"))
    encrypted = tmp_path / "encrypted"
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", key, "-out", str(encrypted)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    for flags, says in (
        ((host, f"--tlscert={cert}"), "TlsKey is missing: TLS needs TlsCert and TlsKey"),
        ((host, f"--tlscacert={ca}"), "TlsCert is missing"),
        ((host, f"--tlscert={cert}", f"--tlskey={key}", "--tlsverify"), "--tlsverify needs TlsCA"),
        ((f"--tlscert={cert}", f"--tlskey={key}"), "there is no Host"),
        ((host, "--tlscert=/nowhere", f"--tlskey={key}"), "read the certificate /nowhere: no such"),
        ((host, f"--tlscert={tmp_path}", f"--tlskey={key}"), "is a directory"),
        ((host, f"--tlscert={nonsense}", f"--tlskey={key}"), "holds no certificate in PEM form"),
        ((host, f"--tlscert={damaged}", f"--tlskey={key}"), f"use the certificate {damaged}"),
        ((host, f"--tlscert={cert}", f"--tlskey={nonsense}"), "holds no private key in PEM form"),
        (
            (host, f"--tlscert={cert}", f"--tlskey={other_key}"),
            "does not belong to the certificate",
        ),
        ((host, f"--tlscert={cert}", f"--tlskey={encrypted}"), "is encrypted: take one without"),
        (
            ("--host=tcp://0.0.0.0:1", f"--tlscert={cert}", f"--tlskey={key}"),
            "use 127.0.0.1, or TLS with TlsCA, or --insecure_host",
        ),
        (("--host=tcp://[::]:1",), "can be reached by others"),
    ):
        refused = subprocess.run(
            [*COMMAND, "--config=/dev/null", f"--root={tmp_path}/root", "--nondaemon", *flags],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert says in refused.stderr
    assert not (tmp_path / "root").exists()
