"""Certificates for tests, made with openssl: an authority, a server's, and clients'."""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.certificate = folder / "ca.pem"
        _openssl(
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={folder.name}"
            f" -keyout {folder}/ca.key -out {self.certificate}"
        )

    def sign(
        self, directory: Path, names: str = "IP:127.0.0.1,IP:::1", *, expired: bool = False
    ) -> Path:
        """Make `cert.pem`, `key.pem` and this authority's `ca.pem` in a new directory."""
        directory.mkdir()
        extensions, request = directory / "names.cnf", directory / "request"
        extensions.write_text(f"subjectAltName={names}\n")
        (directory / "ca.pem").write_bytes(self.certificate.read_bytes())
        _openssl(
            f"req -newkey rsa:2048 -nodes -subj /CN=x -keyout {directory}/key.pem -out {request}"
        )
        # OpenSSL 3.0 takes a number of days below zero.
        _openssl(
            f"x509 -req -days {-1 if expired else 2} -in {request} -CA {self.certificate}"
            f" -CAkey {self.folder}/ca.key -CAcreateserial -extfile {extensions}"
            f" -out {directory}/cert.pem"
        )
        return directory


def _openssl(command: str) -> None:
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True, timeout=60)
