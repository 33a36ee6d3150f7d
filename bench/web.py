"""nginx in an image and wrk on this host, from Debian's packages, which need not be installed."""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .debian import packages

_NGINX = ("nginx",)
_WRK = ("wrk", "libluajit-5.1-2")
_BOUND = 120.0
LARGE = 1 << 20
_CONFIG = """
daemon off;
worker_processes 1;
error_log stderr;
pid /tmp/nginx.pid;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
    uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
    sendfile on; keepalive_requests 1000000;
    server { listen 80; root /www; }
}
"""
COMMAND = ("/usr/sbin/nginx", "-c", "/etc/nginx.conf", "-e", "stderr")


def nginx_layer(tar: Path) -> Path:
    """A tar of a root directory that holds nginx, its libraries, and two files to serve."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for directory in ("tmp", "www", "etc", "usr/sbin", "usr/share/nginx", "var/log/nginx"):
            (root / directory).mkdir(parents=True)
        program = packages(*_NGINX) / "usr/sbin/nginx"
        shutil.copy(program, root / "usr/sbin/nginx")
        needed = subprocess.run(
            ["ldd", str(program)], capture_output=True, text=True, check=True, timeout=_BOUND
        )
        for library in re.findall(r"(/lib\S+) \(0x", needed.stdout):
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
        (root / "etc/nginx.conf").write_text(_CONFIG)
        (root / "etc/passwd").write_text("root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        (root / "www/small").write_bytes(b"x" * 100)
        (root / "www/large").write_bytes(os.urandom(LARGE))
        root.chmod(0o755)
        with tarfile.open(tar, "w") as archive:
            archive.add(root, arcname=".", filter=_of_root)
    return tar


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry


def load(prefix: list[str], url: str, seconds: int, connections: int = 16) -> tuple[float, float]:
    """Requests, and MB, a second that wrk gets from `url`; `prefix` is what wrk is run by.

    Raises RuntimeError when an answer was not what it should be.
    """
    place = packages(*_WRK)
    libraries = next(place.glob("usr/lib/*/libluajit*")).parent
    done = subprocess.run(
        [
            *(*prefix, "env", f"LD_LIBRARY_PATH={libraries}", str(place / "usr/bin/wrk")),
            *("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", url),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + _BOUND,
    )
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", done.stdout)
    if requests is None or transfer is None or "errors" in done.stdout or "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk on {url}:\n{done.stdout}{done.stderr}")
    unit = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[transfer[2]]
    return float(requests[1]), float(transfer[1]) * unit / 1e6
