"""The checks of `hyper doctor`."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from ..errors import HyperError
from ..guest import kernel as guest_kernel
from ..guest.platforms import ARCHITECTURES, NATIVE
from ..hypervisor import accel, engines, foreign, orphans, qemu_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .session import Session

_COMMAND_BOUND = 10.0
_CAP_NET_ADMIN = 12
_MIB = 1 << 20
_DISK_MIN, _DISK_GOOD = 256 * _MIB, 2048 * _MIB
_MEMORY_MIN, _MEMORY_GOOD = 192 * _MIB, 512 * _MIB
_ROOT = "/var/lib/hyper"
_OWN = ARCHITECTURES[NATIVE].platform


class Check(NamedTuple):
    """A verdict: `ok`, `warn` (works, but less well) or `fail` (no container can run)."""

    name: str
    verdict: str
    message: str
    remedy: str = ""


class _Daemon(NamedTuple):
    """The running hyperd, if there is one: what it says of itself, else why it does not."""

    version: dict[str, object] | None
    root: str
    trouble: str
    missing: bool


def all_checks(session: Session) -> Iterator[Check]:
    """Each check when it is done, in the order of what a container needs."""
    daemon = _ask_daemon(session)
    yield _root_rights(daemon)
    qemu = _qemu()
    yield qemu
    image, kernel = _kernel(daemon)
    yield kernel
    yield _initrd(image)
    kvm = _kvm(image if qemu.verdict == "ok" else None)
    yield kvm
    yield from _xen()
    yield _platforms()
    if qemu.verdict == "ok":
        yield _emulation(kvm)
        yield _sharing()
    yield _vsock()
    yield _image_tools()
    yield _network()
    yield _disk(daemon.root)
    yield _memory()
    yield _cgroup()
    yield _hyperd(daemon)


def _ask_daemon(session: Session) -> _Daemon:
    from ..client.transport import DaemonUnavailable

    client = session.client(start=False)
    try:
        version = client.version()
        root = str(client.info().get("DockerRootDir") or _ROOT)
        return _Daemon(version, root, "", missing=False)
    except HyperError as error:
        missing = isinstance(error, DaemonUnavailable) and error.missing
        return _Daemon(None, _ROOT, error.message, missing)


def _root_rights(daemon: _Daemon) -> Check:
    if os.geteuid() == 0:
        return Check("root", "ok", "running as root")
    if daemon.version is not None:
        return Check("root", "ok", "not root, but hyperd can be reached")
    return Check("root", "fail", "hyperd needs root and we are not", "run as root: sudo hyper …")


def _output(*argv: str) -> str:
    """What a command prints; "" when it fails or takes too long."""
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=_COMMAND_BOUND, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _qemu() -> Check:
    try:
        path = qemu_start.binary()
    except HyperError as error:
        message, _, remedy = error.message.partition(": ")
        return Check("qemu", "fail", message, remedy)
    words = _output(path, "--version").split()
    if len(words) < 4:
        return Check("qemu", "fail", f"{path} does not run", f"reinstall {qemu_start.PACKAGE}")
    return Check("qemu", "ok", f"{path}, version {words[3]}{_package(path)}")


def _package(path: str) -> str:
    """The Debian package of a file, for texts."""
    owner = _output("dpkg-query", "-S", path).partition(":")[0]
    if not owner:
        return ""
    version = _output("dpkg-query", "-W", "-f", "${Version}", owner)
    return f" (package {owner} {version})"


def _kernel(daemon: _Daemon) -> tuple[guest_kernel.GuestImage | None, Check]:
    configured = str((daemon.version or {}).get("kernel") or "auto")
    try:
        image = guest_kernel.find(None if configured == "auto" else configured)
    except HyperError as error:
        message, _, remedy = error.message.partition(": ")
        return None, Check("kernel", "fail", message, remedy)
    if image.kind == "distribution":
        return image, Check(
            "kernel",
            "warn",
            f"{image.kernel}, the distribution's",
            "`make hyperkernel` builds one that starts faster",
        )
    return image, Check("kernel", "ok", f"{image.kernel} ({image.kind})")


def _initrd(image: guest_kernel.GuestImage | None) -> Check:
    path = image.initrd if image else f"{guest_kernel.cache_directory()}/hyper-initrd.img"
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        why = (error.strerror or "").lower()
        return Check("initrd", "fail", f"{path}: {why}", "`make initrd` builds it")
    if not head.startswith((b"070701", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"\x02!L")):
        return Check("initrd", "fail", f"{path} is no initrd", "`make initrd` builds it again")
    return Check("initrd", "ok", f"{path}, {max(1, size // 1024)} KiB, with hyperstart")


def _kvm(image: guest_kernel.GuestImage | None) -> Check:
    """Whether KVM runs a guest; without it the emulation does, so nothing here is fatal."""
    if (early := _kvm_device()) is not None:
        return early
    if image is None:
        return Check("kvm", "warn", f"{accel.DEVICE} opens; not tried: no QEMU or no guest kernel")
    try:
        trouble = accel.kvm_trouble(image)
    except (HyperError, OSError) as error:
        trouble = str(error)
    if not trouble:
        return Check("kvm", "ok", "runs a guest")
    return Check(
        "kvm",
        "warn",
        trouble,
        "guests are emulated (TCG), which works but computes slower; in a VM, ask its provider"
        " for nested virtualization",
    )


def _xen() -> Iterator[Check]:
    """What Xen still runs for nobody; nothing to be said where there is no Xen."""
    if not engines.is_control_domain():
        return
    try:
        left = orphans.find_orphans()
    except HyperError as error:
        message, _, remedy = error.message.partition(": ")
        yield Check("xen", "warn", message, remedy)
        return
    if left:
        names = ", ".join(left)
        yield Check(
            "xen",
            "warn",
            f"domains whose sandbox was killed: {names}",
            "start hyperd, which ends them, or `xl destroy` each",
        )
    else:
        yield Check("xen", "ok", f"runs guests: {engines.of_xen()}")


def _kvm_device() -> Check | None:
    """What is wrong with the device itself, None if nothing is."""
    device = accel.DEVICE
    try:
        status = os.stat(device)
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Check(
            "kvm",
            "warn",
            f"{device} does not exist: guests are emulated (TCG)",
            "enable virtualization in the firmware and `modprobe kvm_intel` or `kvm_amd`",
        )
    except PermissionError:
        mode = stat.filemode(status.st_mode)
        return Check(
            "kvm",
            "warn",
            f"{device} is not ours to open ({mode}, uid {status.st_uid}, gid {status.st_gid})",
            "run as root, or join the device's group (usually kvm)",
        )
    except OSError as error:
        why = (error.strerror or "").lower()
        return Check("kvm", "warn", f"{device} can't be opened: {why}", "load the kvm module")
    return None


def _emulation(kvm: Check) -> Check:
    if "tcg" in _output(qemu_start.binary(), "-accel", "help").split():
        return Check("emulation", "ok", "QEMU's TCG is there for when KVM does not run guests")
    return Check(
        "emulation",
        "warn" if kvm.verdict == "ok" else "fail",
        "this QEMU has no TCG: only KVM can run guests",
        f"install {qemu_start.PACKAGE}",
    )


def _platforms() -> Check:
    """Whose images run; the host's own are what the other checks are about."""
    found = foreign.platforms()
    lacking = [text.partition(": ") for name, text in found.items() if text and name != _OWN]
    able = [name for name, text in found.items() if not text or name == _OWN]
    messages = [", ".join(able), *(message for message, _, _ in lacking)]
    remedies = [remedy for _, _, remedy in lacking]
    return Check("platforms", "ok", "; ".join(messages), "; ".join(remedies))


def _sharing() -> Check:
    """How a directory of the host gets into a VM."""
    ways = []
    if "virtio-9p-pci" in _output(qemu_start.binary(), "-device", "help"):
        ways.append("9p")
    virtiofsd = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
    if any(map(os.path.exists, virtiofsd)) or shutil.which("virtiofsd"):
        ways.append("virtiofsd")
    if "9p" in ways:
        return Check("sharing", "ok", f"host directories by {' and '.join(ways)}")
    return Check(
        "sharing",
        "warn",
        "QEMU has no virtio-9p: host directories can't be given to containers",
        f"install {qemu_start.PACKAGE}",
    )


def _vsock() -> Check:
    if os.path.exists("/dev/vhost-vsock"):
        return Check("vsock", "ok", "vhost_vsock is there (not needed: virtio-serial is used)")
    return Check("vsock", "ok", "no vhost_vsock, and none needed: virtio-serial is used")


def _image_tools() -> Check:
    needed = {"sqfstar": "squashfs-tools", "mkfs.ext4": "e2fsprogs"}
    sbin = "/usr/local/sbin:/usr/sbin:/sbin"
    path = os.environ.get("PATH", os.defpath) + ":" + sbin
    missing = [tool for tool in needed if not shutil.which(tool, path=path)]
    if missing:
        packages = " ".join(needed[tool] for tool in missing)
        return Check(
            "image tools",
            "fail",
            f"{' and '.join(missing)} not found",
            f"apt-get install {packages}",
        )
    return Check("image tools", "ok", " and ".join(needed))


def _network() -> Check:
    """What bridges need; without it containers have QEMU's user-mode network."""
    lacking = []
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        lacking.append(f"/dev/net/tun: {(error.strerror or '').lower()}")
    if not shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"):
        lacking.append("nft not found")
    if not _capabilities() & (1 << _CAP_NET_ADMIN):
        lacking.append("no CAP_NET_ADMIN")
    if lacking:
        return Check(
            "network",
            "warn",
            f"no bridges: {', '.join(lacking)}; QEMU's user-mode network works",
            "apt-get install nftables, and run as root with /dev/net/tun",
        )
    return Check("network", "ok", "/dev/net/tun, nft and CAP_NET_ADMIN")


def _capabilities() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _graded(name: str, free: int, least: int, good: int, where: str, remedy: str) -> Check:
    message = f"{free / (1 << 30):.1f} GiB free {where}"
    if free < least:
        return Check(name, "fail", f"only {message}", remedy)
    if free < good:
        return Check(name, "warn", f"only {message}", remedy)
    return Check(name, "ok", message)


def _disk(root: str) -> Check:
    existing = root
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    numbers = os.statvfs(existing)
    return _graded(
        "disk",
        numbers.f_bavail * numbers.f_frsize,
        _DISK_MIN,
        _DISK_GOOD,
        f"for {root}",
        "free space there, or set Root in /etc/hyper/config",
    )


def _memory() -> Check:
    free = 0
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    return _graded(
        "memory", free, _MEMORY_MIN, _MEMORY_GOOD, "of memory", "a VM takes 128 MiB: stop something"
    )


def _cgroup() -> Check:
    """Which hierarchy the host has; limits of containers are applied in the guest."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        kind = "v2"
    elif os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        kind = "v1 with v2 beside it (hybrid)"
    elif os.path.isdir("/sys/fs/cgroup/memory"):
        kind = "v1"
    else:
        kind = "none"
    return Check("cgroup", "ok", f"{kind}; limits of containers are applied in their guests")


def _hyperd(daemon: _Daemon) -> Check:
    if daemon.version is not None:
        return Check("hyperd", "ok", f"running, version {daemon.version.get('version')}")
    if daemon.missing and os.geteuid() == 0:
        return Check("hyperd", "ok", "not running; the first command that needs it starts it")
    return Check("hyperd", "warn", daemon.trouble)
