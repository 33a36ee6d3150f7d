"""A real registry (Debian's docker-registry) on a free loopback port, for tests."""

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

USER, PASSWORD = "someone", "s3cret word"
_START_TIMEOUT = 20.0


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and a certificate of it for 127.0.0.1 and localhost."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make them with openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    authority_key, request = folder / "ca.key", folder / "server.csr"
    names = folder / "names.cnf"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for command in (
        f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority"
        f" -keyout {authority_key} -out {made.authority}",
        f"req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout {made.key} -out {request}",
        f"x509 -req -days 2 -in {request} -CA {made.authority} -CAkey {authority_key}"
        f" -CAcreateserial -extfile {names} -out {made.certificate}",
    ):
        _run(["openssl", *command.split()])
    return made


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RegistryServer:
    """A context manager; `host` is what goes before an image's path."""

    def __init__(
        self,
        folder: Path,
        *,
        auth: bool = False,
        tls: Certificates | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._auth = auth
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RegistryServer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again on the same storage; returns when it answers."""
        self.storage.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()))
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(self.folder),
                    "OTEL_TRACES_EXPORTER": "none",
                },
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _config(self) -> dict[str, object]:
        http: dict[str, object] = {"addr": self.host, "secret": "for-tests"}
        if self._tls is not None:
            http["tls"] = {
                "certificate": str(self._tls.certificate),
                "key": str(self._tls.key),
            }
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self._auth:
            passwords = self.folder / "htpasswd"
            passwords.write_text(f"{USER}:{_bcrypt(PASSWORD)}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
        return config

    def _answers(self) -> bool:
        scheme = "https" if self._tls else "http"
        context = ssl._create_unverified_context() if self._tls else None
        try:
            urllib.request.urlopen(
                f"{scheme}://{self.host}/v2/", timeout=2, context=context
            ).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it; its storage stays."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)

    def push(self, source: str, name: str, *options: str) -> str:
        """Copy an image (in skopeo's notation) here as `name`; what to pull it by."""
        target = f"{self.host}/{name}"
        credentials = ["--dest-creds", f"{USER}:{PASSWORD}"] if self._auth else []
        _run(
            [
                *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
                *credentials,
                *options,
                source,
                f"docker://{target}",
            ]
        )
        return target

    def blob(self, digest: str) -> Path:
        """The file that holds a blob."""
        digits = digest.partition(":")[2]
        return self.storage / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"

    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text()

    def wipe(self) -> None:
        """Forget all images."""
        shutil.rmtree(self.storage)
        self.storage.mkdir()


def _bcrypt(password: str) -> str:
    """A bcrypt hash, the only kind that docker-registry's htpasswd takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import crypt

        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
