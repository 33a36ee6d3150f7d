"""Root file systems for tests, made of Debian's static busybox: directories and disk images."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from hypercontainer.guest.platforms import NATIVE
from tests.e2e.engine import ARCHITECTURE

BUSYBOX = Path("/bin/busybox")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORIES = ("bin", "dev", "etc", "home/app", "proc", "root", "run", "sys", "tmp", "var")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
_GROUP = "root:x:0:\napp:x:1000:\nextra:x:2000:app\n"
_BOUND = 60


def guest_busybox() -> Path:
    """The busybox that runs in the guests of this run."""
    if ARCHITECTURE == NATIVE:
        return BUSYBOX
    from tests.arm64.busybox import busybox

    return busybox()


def make_tree(path: Path) -> Path:
    """A root directory with busybox, its applets and the users root and app (1000)."""
    for name in _DIRECTORIES:
        (path / name).mkdir(parents=True)
    shutil.copy2(guest_busybox(), path / "bin" / "busybox")
    applets = subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=_BOUND
    )
    for applet in set(applets.stdout.split()) - {"busybox"}:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc" / "passwd").write_text(_PASSWD)
    (path / "etc" / "group").write_text(_GROUP)
    (path / "tmp").chmod(0o1777)
    os.chown(path / "home" / "app", 1000, 1000)
    return path


def tar_of(tree: Path) -> bytes:
    """The directory as a tar."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(tree, arcname=".")
    return archive.getvalue()


def make_squashfs(tree: Path, image: Path) -> Path:
    """The directory as a read-only layer."""
    subprocess.run(
        ["sqfstar", "-comp", "lz4", "-quiet", "-no-progress", str(image)],
        input=tar_of(tree),
        check=True,
        timeout=_BOUND,
    )
    return image


def make_upper(image: Path, size: int = 64 << 20) -> Path:
    """An empty sparse disk for a container's changes."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image)], check=True, timeout=_BOUND)
    return image


def make_config(*args: str, terminal: bool = False, **process: Any) -> dict[str, Any]:
    """An OCI configuration that runs `args` as engines would write it."""
    strict = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": [PATH],
            "cwd": "/",
            **process,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*strict, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "cgroup")],
            "resources": {},
        },
    }


def process(*args: str, terminal: bool = False, **keys: Any) -> dict[str, Any]:
    """The process object of such a configuration."""
    found: dict[str, Any] = make_config(*args, terminal=terminal, **keys)["process"]
    return found
