"""A domain of Xen: its configuration, and what `xl` does to it."""

import os
import re
import shutil
import subprocess
from contextlib import suppress

from ..errors import VMError
from ..system import processes
from . import xen_devices
from .driver import SHARE_TAG
from .machine import Machine
from .xenstore import XenStore

XL = "xl"
_PACKAGE = "xen-utils-common"
_BOUND = 120.0
_ARGUMENTS = (
    "console=hvc0 loglevel=4 panic=-1 random.trust_cpu=on psi=1 dummy.numdummies=0"
    # hyperstart's ports: the consoles beside the first.
    " hyper.ports=hvc1,hvc2"
)
# The name of a domain ends with whose it is: pids, and what they mean, are a namespace's.
_NAME = re.compile(r"hyper-.*-(\d+)-(\d+)-(\d+)")


def binary() -> str:
    """The path of xl. Raises VMError naming the package when it is missing."""
    path = shutil.which(XL) or shutil.which(XL, path="/usr/sbin:/sbin")
    if path is None:
        raise VMError(f"{XL} not found: install {_PACKAGE} (apt-get install {_PACKAGE})")
    return path


def name_of(machine: Machine, keeper: int, started: int) -> str:
    """The name of the domain that process `keeper` (with that start time) keeps."""
    return f"hyper-{machine.name[:60]}-{_pid_namespace()}-{keeper}-{started}"


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def configuration(machine: Machine, name: str) -> str:
    """The domain as xl wants it: see xl.cfg(5). It has no device but a share."""
    lines = {
        "name": _quoted(name),
        "type": _quoted("pv" if machine.accel == "xenpv" else "pvh"),
        "kernel": _quoted(machine.kernel),
        "ramdisk": _quoted(machine.initrd),
        "cmdline": _quoted(f"{_ARGUMENTS} {machine.append}".strip()),
        "memory": str(machine.memory_mib),
        "vcpus": str(machine.cpus),
        **{f"on_{event}": _quoted("destroy") for event in ("poweroff", "reboot", "crash")},
    }
    if machine.accel == "xen":
        # Where Xen emulates the TSC, a whole guest dies of this instruction, which it uses to
        # learn which CPU it is on; there is another way.
        lines["cpuid"] = _quoted("host,rdtscp=0")
    if machine.share:
        share = f"tag={SHARE_TAG},security_model=none,path={machine.share}"
        lines["p9"] = f"[{_quoted(share)}]"
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _quoted(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise VMError(f"{text!r} can't be said to xl")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def xl(*arguments: str) -> str:
    """What a command of xl prints. Raises VMError with what it said of its trouble."""
    try:
        done = subprocess.run(
            [binary(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BOUND,
        )
    except subprocess.TimeoutExpired:
        raise VMError(f"xl {arguments[0]} did not end in {_BOUND:.0f} s") from None
    if done.returncode:
        raise VMError(f"xl {arguments[0]}: {what_it_said(done.stderr)}")
    return done.stdout


def what_it_said(errors: str) -> str:
    """The reason in xl's messages, which begin with where in its source they come from."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    troubles = [line for line in lines if "error" in line.lower()] or lines
    return re.sub(r"^libxl: error: \S+?:\d+:\w+: ", "", troubles[0]) if troubles else "no reason"


def find(store: XenStore, name: str) -> int | None:
    """The domain of a name, None when there is none."""
    for number in store.list("/local/domain"):
        if store.read(f"/local/domain/{number}/name") == name:
            return int(number)
    return None


def destroy(store: XenStore, domain: int) -> None:
    """End a domain, and what belongs to it; one that is gone is fine. Raises VMError."""
    try:
        xl("destroy", str(domain))
    except VMError:
        if store.list(f"/local/domain/{domain}"):
            raise
    finally:
        xen_devices.forget_domain(store, domain)


def orphans(store: XenStore) -> dict[int, str]:
    """The names of the domains whose keeper was killed together with its sandbox. Raises VMError.

    Those of other pid namespaces are not ours to judge.
    """
    found = {}
    for number in store.list("/local/domain"):
        name = store.read(f"/local/domain/{number}/name")
        if (match := _NAME.fullmatch(name)) is None:
            continue
        namespace, keeper, started = map(int, match.groups())
        if namespace == _pid_namespace() and not processes.alive(keeper, started):
            found[int(number)] = name
    return found


def sweep(store: XenStore) -> list[str]:
    """End the domains that are nobody's any more; their names. Raises VMError."""
    found = orphans(store)
    for number, name in found.items():
        destroy(store, number)
        forget_log(name)
    return list(found.values())


def forget_log(name: str) -> None:
    """Remove what Xen keeps of the QEMU that served a domain's share."""
    with suppress(OSError):
        os.unlink(f"/var/log/xen/qemu-dm-{name}.log")


def memory_mib(domain: int) -> int:
    """What a domain has at this moment, in MiB. Raises VMError."""
    return int(_listed(domain)[-4])


def cpus(domain: int) -> int:
    """How many CPUs a domain runs on at this moment. Raises VMError."""
    return int(_listed(domain)[-3])


def _listed(domain: int) -> list[str]:
    """Name, ID, Mem, VCPUs, State, Time."""
    return xl("list", str(domain)).splitlines()[-1].split()


def host_mib() -> int:
    """The memory of the machine, in MiB, of which the first domain sees only its own."""
    return _information("total_memory")


def free_mib() -> int:
    """The MiB that no domain has. Raises VMError."""
    return _information("free_memory")


def _information(name: str) -> int:
    for line in xl("info").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return int(value)
    raise VMError(f"xl info does not tell {name}")


def reaches_shares() -> bool:
    """Whether there is a program that serves directories to domains."""
    return any(map(os.path.exists, _SHARE_SERVERS))


_SHARE_SERVERS = ("/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen/bin/qemu-system-i386")
