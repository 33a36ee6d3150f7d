"""VBoxManage's command lines for a VM that boots our CD.

By VirtualBox 7.1's user manual, chapter "VBoxManage": createvm, modifyvm, storagectl,
storageattach, controlvm, startvm, showvminfo, convertfromraw, clonemedium, closemedium,
unregistervm. Pure; `run` alone starts the program.
"""

import os
import re
import shutil
import subprocess
from typing import NamedTuple

from ..errors import VMError
from ..guest.kernel import INSTALLED, cache_directory
from .machine import Machine

PROGRAM = "VBoxManage"
CD = "hyper.iso"
# I/O ports and interrupts of a PC's serial ports, which the guest calls ttyS0, ttyS1 and ttyS2.
SERIAL = (("0x3F8", "4"), ("0x2F8", "3"), ("0x3E8", "4"))
# Of its controllers only this one, and that of USB, take disks while the VM runs.
DISKS = "disks"
MAX_DISKS = 30
_DRIVE = "cd"
_STATE = re.compile(r'^VMState="([a-z]+)"$', re.MULTILINE)
_BOUND = 120.0


class Pipes(NamedTuple):
    """Paths of the sockets that the VM's serial ports connect to."""

    control: str
    streams: str
    console: str


def boot_cd() -> str | None:
    """The CD that `make iso` or `make install` left, if one did."""
    places = (cache_directory(), INSTALLED)
    return next((p for place in places if os.path.exists(p := os.path.join(place, CD))), None)


def create(machine: Machine, directory: str, cd: str, pipes: Pipes) -> list[list[str]]:
    """What makes the VM, whose own files go below `directory`."""
    name = machine.name
    modify = ["modifyvm", name]
    serial = []
    for number, ((port, interrupt), pipe) in enumerate(zip(SERIAL, pipes, strict=True), 1):
        # VirtualBox is the client, so that no byte comes before there is somebody to read it.
        serial += [f"--uart{number}", port, interrupt, f"--uart-mode{number}", "client", pipe]
    card = ["--nic1=nat", "--nic-type1=virtio"] if machine.network == "user" else ["--nic1=none"]
    return [
        [
            *("createvm", f"--name={name}", "--platform-architecture=x86"),
            *("--ostype=Linux26_64", f"--basefolder={directory}", "--register"),
        ],
        [
            *modify,
            *(f"--memory={machine.memory_mib}", f"--cpus={machine.cpus}", "--vram=1"),
            *("--acpi=on", "--ioapic=on", "--firmware=bios", "--rtc-use-utc=on"),
            *("--boot1=dvd", "--boot2=none", "--boot3=none", "--boot4=none"),
            *("--audio-enabled=off", "--paravirt-provider=kvm"),
        ],
        [*modify, *serial],
        [*modify, *card],
        ["storagectl", name, f"--name={_DRIVE}", "--add=ide", "--controller=PIIX4"],
        [
            *("storageattach", name, f"--storagectl={_DRIVE}", "--port=0", "--device=0"),
            *("--type=dvddrive", f"--medium={cd}"),
        ],
        [
            *("storagectl", name, f"--name={DISKS}", "--add=sata", "--controller=IntelAhci"),
            f"--portcount={MAX_DISKS}",
        ],
    ]


def start(name: str) -> list[str]:
    """What starts it, without a window."""
    return ["startvm", name, "--type=headless"]


def control(name: str, action: str) -> list[str]:
    """`pause`, `resume` or `poweroff`."""
    return ["controlvm", name, action]


def remove(name: str) -> list[str]:
    """What forgets a VM that is off. `--delete` would take its disks, with what it has written."""
    return ["unregistervm", name]


def information(name: str) -> list[str]:
    """What `state_of` reads."""
    return ["showvminfo", name, "--machinereadable"]


def attach_disk(name: str, port: int, image: str, *, read_only: bool) -> list[str]:
    """What plugs a VDI image in."""
    kind = "readonly" if read_only else "writethrough"
    return [
        *("storageattach", name, f"--storagectl={DISKS}", f"--port={port}", "--device=0"),
        *("--type=hdd", f"--medium={image}", f"--mtype={kind}", "--hotpluggable=on"),
    ]


def detach_disk(name: str, port: int) -> list[str]:
    """What unplugs it."""
    return [
        *("storageattach", name, f"--storagectl={DISKS}", f"--port={port}", "--device=0"),
        "--medium=none",
    ]


def to_vdi(raw: str, image: str) -> list[str]:
    """What makes a VDI image of a raw one."""
    return ["convertfromraw", raw, image, "--format=VDI"]


def to_raw(image: str, raw: str) -> list[str]:
    """What makes a raw image, which must not be there, of a VDI image."""
    return ["clonemedium", "disk", image, raw, "--format=RAW"]


def forget_image(image: str, *, delete: bool) -> list[str]:
    """What takes an image off VirtualBox's list."""
    return ["closemedium", "disk", image, *(["--delete"] if delete else [])]


def forward(name: str, protocol: str, host_ip: str, host_port: int, guest_port: int) -> list[str]:
    """What passes a port of the host on, by NAT."""
    rule = rule_name(protocol, host_ip, host_port)
    return ["controlvm", name, "natpf1", f"{rule},{protocol},{host_ip},{host_port},,{guest_port}"]


def unforward(name: str, protocol: str, host_ip: str, host_port: int) -> list[str]:
    """The reverse."""
    return ["controlvm", name, "natpf1", "delete", rule_name(protocol, host_ip, host_port)]


def rule_name(protocol: str, host_ip: str, host_port: int) -> str:
    """The name of a NAT rule, which holds no comma."""
    return f"{protocol}-{host_ip or 'any'}-{host_port}"


def state_of(information: str) -> str:
    """The state in `showvminfo`'s answer, such as `running`, `paused` or `poweroff`; "" if none."""
    match = _STATE.search(information)
    return match[1] if match else ""


def program() -> str:
    """The path of VBoxManage. Raises VMError when it is missing."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise VMError(f"{PROGRAM} not found: install VirtualBox 7.1 or newer (Debian has none)")
    return path


def run(arguments: list[str]) -> str:
    """What VBoxManage says. Raises VMError with its last words. Blocks."""
    try:
        done = subprocess.run(
            [program(), "-q", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BOUND,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VMError(f"{PROGRAM} {arguments[0]} did not end in {_BOUND:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        said = lines[0].partition("error:")[2].strip() if lines else f"exit code {done.returncode}"
        raise VMError(f"{PROGRAM} {arguments[0]}: {said}")
    return done.stdout
