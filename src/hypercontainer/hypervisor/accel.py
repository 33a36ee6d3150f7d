"""Which engine runs a VM: KVM where it really runs a guest, else QEMU's emulation (TCG).

A `/dev/kvm` that opens proves nothing: on some hosts a guest then dies or
hangs. So the first use boots our guest once under KVM, and the verdict is kept
per boot of the host, QEMU, kernel and initrd; one of a busy host, which may
only have been slow, not for long. A custom guest is asked only where there is
none of ours: it may fail by itself.
"""

import json
import os
import select
import time

from ..errors import BadRequest, NotFound, VMError
from ..guest.kernel import GuestImage, find
from ..system.files import write_atomic
from ..system.patience import patience, slowness
from .machine import bare_machine
from .qemu_start import binary, start

DEVICE = "/dev/kvm"
VERDICT = "/run/hyper/kvm-verdict.json"
# Seconds on an idle host. A guest that KVM really runs is up in a tenth of them.
_PROBE_BOUND = 8.0
# Runnable processes per CPU from which a guest may only have been slow, and for how many seconds
# it is believed then that it hung.
_BUSY = 2.0
_UNSURE = 600.0
_FOREVER = float("inf")
_READY = 8


def choose(wanted: str, image: GuestImage) -> tuple[str, str]:
    """The engine (`kvm` or `tcg`), and in one line why, "" for KVM.

    Raises VMError when `kvm` is wanted and can't be had.
    """
    if wanted == "tcg":
        return "tcg", "asked for"
    if wanted not in ("auto", "kvm"):
        raise BadRequest(f"accel: {wanted!r} is none of auto, kvm, tcg")
    why = kvm_trouble(image)
    if not why:
        return "kvm", ""
    if wanted == "kvm":
        raise VMError(f"kvm can't be used: {why}; use accel=auto or accel=tcg")
    return "tcg", why


def kvm_trouble(image: GuestImage) -> str:
    """Why KVM can't run a guest here, "" when it can. Takes seconds the first time."""
    if not os.path.exists(DEVICE):
        return f"{DEVICE} does not exist (no virtualization, or the kvm module is not loaded)"
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE} can't be opened: {(error.strerror or '').lower()}"
    probed = _probed(image)
    key = _key(probed)
    known = _known(key)
    if known is None:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="hyper-probe-") as jail:
            known, sure = _probe(probed, jail)
        _remember(key, known, sure=sure)
    return known


def _probed(image: GuestImage) -> GuestImage:
    try:
        return find()
    except NotFound:
        return image


def _key(image: GuestImage) -> str:
    """What the verdict depends on: this boot of the host, QEMU, and what it boots."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    boots = (path for path in (image.kernel, image.initrd, image.bios) if path)
    stamps = (os.stat(path).st_mtime_ns for path in (binary(), *boots))
    return " ".join([boot, image.kernel, image.initrd, *map(str, stamps)])


def _known(key: str) -> str | None:
    try:
        with open(VERDICT, "rb") as file:
            verdict = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(verdict, dict) or verdict.get("key") != key:
        return None
    until = verdict.get("until", _FOREVER)
    if not isinstance(until, int | float) or _now() > until:
        return None
    trouble = verdict.get("trouble")
    return trouble if isinstance(trouble, str) else None


def _now() -> float:
    """Seconds since the host's boot, which the verdict does not outlive."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _remember(key: str, trouble: str, *, sure: bool) -> None:
    verdict: dict[str, str | float] = {"key": key, "trouble": trouble}
    if not sure:
        verdict["until"] = _now() + _UNSURE
    try:
        os.makedirs(os.path.dirname(VERDICT), mode=0o711, exist_ok=True)
        write_atomic(VERDICT, json.dumps(verdict).encode(), 0o644)
    except OSError:
        pass


def _probe(image: GuestImage, jail: str) -> tuple[str, bool]:
    """Boot a guest under KVM until hyperstart says READY.

    Returns what went wrong, or "", and whether that is sure: whether another try would say it too.
    """
    vmm = start(bare_machine("kvm-probe", "kvm", image, jail))
    bound = _PROBE_BOUND * slowness()
    deadline = time.monotonic() + bound
    try:
        poller = select.poll()
        poller.register(vmm.control, select.POLLIN)
        greeting = b""
        while (left := deadline - time.monotonic()) > 0 and poller.poll(left * 1000):
            data = vmm.control.recv(4096)
            if not data:
                return f"a guest died under KVM: {_last_words(vmm.errors)}", True
            greeting += data
            if len(greeting) >= 4:
                ready = int.from_bytes(greeting[:4], "big") == _READY
                return "" if ready else "a guest under KVM answered with garbage", True
        idle = patience() < _BUSY * slowness()
        return f"a guest under KVM did not start in {bound:.0f} s", idle
    finally:
        vmm.discard()


def _last_words(errors: int) -> str:
    time.sleep(0.05)
    try:
        lines = os.read(errors, 8192).decode(errors="replace").strip().splitlines()
    except BlockingIOError:
        lines = []
    return lines[-1] if lines else "QEMU gave no reason"
