"""Stands for VBoxManage: checks each call against the manual's grammar, and what it does to a VM.

VirtualBox can't run where the tests do. The grammar is that of the user manual of 7.1, written down
from the synopses of its chapter "VBoxManage". Calls are kept in DIRECTORY/calls; a VM that starts
connects to the sockets of its serial ports, says READY, and answers nothing else.

usage: vboxmanage.py DIRECTORY ARGUMENT...
"""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

ON = "on|off"
NUMBER = r"\d+"
FILE = r"/.+"
NAME = r"[\w.-]+"
PORT = r"0x[0-9A-F]{3} \d{1,2}"
MODE = rf"disconnected|(server|client) {FILE}|tcpserver \d+|file {FILE}"
# Options of a command by name; a digit at a name's end stands for N. "" takes no value.
OPTIONS = {
    "createvm": {
        "name": NAME,
        "platform-architecture": "x86|arm",
        "basefolder": FILE,
        "default": "",
        "ostype": NAME,
        "register": "",
        "uuid": NAME,
    },
    "modifyvm": {
        "memory": NUMBER,
        "cpus": NUMBER,
        "vram": NUMBER,
        "acpi": ON,
        "ioapic": ON,
        "firmware": "bios|efi|efi32|efi64",
        "rtc-use-utc": ON,
        "bootN": "none|floppy|dvd|disk|net",
        "audio-enabled": ON,
        "paravirt-provider": "none|default|legacy|minimal|hyperv|kvm",
        "nicN": "none|null|nat|bridged|intnet|hostonly|generic|natnetwork",
        "nic-typeN": "Am79C970A|Am79C973|82540EM|82543GC|82545EM|virtio",
        "uartN": f"off|{PORT}",
        "uart-modeN": MODE,
    },
    "storagectl": {
        "name": NAME,
        "add": "floppy|ide|pcie|sas|sata|scsi|usb",
        "controller": "BusLogic|I82078|ICH6|IntelAhci|LSILogic|LSILogicSAS|NVMe|PIIX3|PIIX4|USB",
        "bootable": ON,
        "hostiocache": ON,
        "portcount": NUMBER,
        "remove": "",
    },
    "storageattach": {
        "storagectl": NAME,
        "port": NUMBER,
        "device": NUMBER,
        "type": "dvddrive|fdd|hdd",
        "medium": f"none|emptydrive|{FILE}",
        "mtype": "normal|writethrough|immutable|shareable|readonly|multiattach",
        "hotpluggable": ON,
        "forceunmount": "",
    },
    "startvm": {"type": "gui|headless|sdl|separate"},
    "showvminfo": {"details": "", "machinereadable": ""},
    "unregistervm": {"delete": "", "delete-all": ""},
    "convertfromraw": {"format": "VDI|VMDK|VHD", "variant": NAME, "uuid": NAME},
    "clonemedium": {"format": "VDI|VMDK|VHD|RAW", "variant": NAME, "existing": ""},
    "closemedium": {"delete": ""},
    "controlvm": {},
}
# Words besides options, of which the first of most is the VM.
WORDS = {
    "createvm": "",
    "modifyvm": NAME,
    "storagectl": NAME,
    "storageattach": NAME,
    "startvm": NAME,
    "showvminfo": NAME,
    "unregistervm": NAME,
    "convertfromraw": f"{FILE} {FILE}",
    "clonemedium": f"(disk|dvd|floppy) {FILE} {FILE}",
    "closemedium": f"(disk|dvd|floppy) {FILE}",
    "controlvm": rf"{NAME} (pause|resume|poweroff|natpf\d ({NAME})?,(tcp|udp),[\d.]*,\d+,[\d.]*,\d+"
    rf"|natpf\d delete {NAME})",
}
READY = b'{"protocol":1,"version":"0","kernel":"0","features":[]}'


def refuse(why: str) -> NoReturn:
    print(f"VBoxManage: error: {why}", file=sys.stderr)
    sys.exit(1)


def parse(command: str, arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words and options of a call that follows the grammar."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            words.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        pattern = OPTIONS[command].get(name) or OPTIONS[command].get(re.sub(r"\d$", "N", name))
        if pattern is None:
            if OPTIONS[command].get(name) != "" or equals:
                refuse(f"Unknown option: {argument}")
            options[name] = ""
            continue
        # The two that the manual writes with a blank between their parts.
        if not equals and name.startswith("uart"):
            several = name.startswith("uart-mode") or rest[0] != "off"
            value = " ".join(rest.pop(0) for _ in range(2 if several else 1))
        elif not equals:
            value = rest.pop(0) if rest else ""
        if not re.fullmatch(pattern, value):
            refuse(f"Invalid value {value!r} of --{name}")
        options[name] = value
    if not re.fullmatch(WORDS[command], " ".join(words)):
        refuse(f"Invalid arguments of {command}: {words}")
    return words, options


class Machines:
    """The VMs and what is known of them, in a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "machines"
        self.all: dict[str, dict[str, Any]] = (
            json.loads(self.path.read_text()) if self.path.exists() else {}
        )

    def get(self, name: str, state: str = "") -> dict[str, Any]:
        machine = self.all.get(name)
        if machine is None:
            refuse(f"Could not find a registered machine named '{name}'")
        if state and machine["state"] not in state.split():
            refuse(f"The machine '{name}' is {machine['state']}")
        return machine

    def save(self) -> None:
        self.path.write_text(json.dumps(self.all))


def carry_out(known: Machines, command: str, words: list[str], options: dict[str, str]) -> None:
    """What the call does."""
    if command == "createvm":
        if options["name"] in known.all:
            refuse("Machine settings file already exists")
        known.all[options["name"]] = {"state": "poweroff", "controllers": {}, "disks": {}}
        return
    if command in ("convertfromraw", "clonemedium"):
        source, target = words[-2:]
        if os.path.exists(target):
            refuse(f"{target} exists")
        Path(target).write_bytes(Path(source).read_bytes())
        return
    if command == "closemedium":
        if "delete" in options:
            os.unlink(words[1])
        return
    change(known, command, words, options)


def change(known: Machines, command: str, words: list[str], options: dict[str, str]) -> None:
    """What the call does to a VM."""
    name = words[0]
    machine = known.get(name)
    if command == "modifyvm":
        known.get(name, "poweroff aborted")
        machine.update(options)
    elif command == "storagectl":
        known.get(name, "poweroff aborted")
        machine["controllers"][options["name"]] = options
    elif command == "storageattach":
        attach(machine, options)
    elif command == "startvm":
        known.get(name, "poweroff aborted")
        machine["state"] = "running"
        known.save()
        run_machine(known, name, [str(machine[f"uart-mode{n}"]).split()[1] for n in (1, 2, 3)])
    elif command == "showvminfo":
        print(f'name="{name}"\nVMState="{machine["state"]}"\nVMStateChangeTime="0"')
    elif command == "unregistervm":
        known.get(name, "poweroff aborted")
        del known.all[name]
    elif command == "controlvm":
        control(machine, words)


def attach(machine: dict[str, Any], options: dict[str, str]) -> None:
    controller = machine["controllers"].get(options["storagectl"])
    if controller is None:
        refuse(f"Could not find a controller named '{options['storagectl']}'")
    if int(options["port"]) >= int(controller.get("portcount", 2)):
        refuse("Port out of range")
    if machine["state"] != "poweroff":
        if controller["add"] not in ("sata", "usb"):
            refuse("The controller does not support hot-plugging")
        if options["medium"] != "none" and options.get("hotpluggable") != "on":
            refuse("The device is not hot-pluggable")
    place = f"{options['storagectl']} {options['port']}"
    disks: dict[str, str] = machine["disks"]
    if options["medium"] == "none":
        disks.pop(place)
    elif not os.path.exists(options["medium"]):
        refuse(f"Could not find file for the medium '{options['medium']}'")
    else:
        disks[place] = options["medium"]


def control(machine: dict[str, Any], words: list[str]) -> None:
    action = words[1]
    before = {"pause": "running", "resume": "paused", "poweroff": "running paused"}
    if action in before and machine["state"] not in before[action].split():
        refuse(f"The machine is {machine['state']}")
    after = {"pause": "paused", "resume": "running", "poweroff": "poweroff"}
    machine["state"] = after.get(action, machine["state"])
    rules: list[str] = machine.setdefault("rules", [])
    if action.startswith("natpf") and words[2] == "delete":
        if not any(rule.startswith(f"{words[3]},") for rule in rules):
            refuse("no such rule")
        machine["rules"] = [rule for rule in rules if not rule.startswith(f"{words[3]},")]
    elif action.startswith("natpf"):
        if words[2] in rules:
            refuse("A NAT rule of this name already exists")
        rules.append(words[2])


def run_machine(known: Machines, name: str, pipes: list[str]) -> None:
    """In a process of its own: a guest, until its VM is off or gone."""
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    ports = [socket.socket(socket.AF_UNIX) for _ in pipes]
    for port, pipe in zip(ports, pipes, strict=True):
        port.connect(pipe)
    ports[0].sendall((8).to_bytes(4, "big") + (8 + len(READY)).to_bytes(4, "big") + READY)
    ports[2].sendall(b"a line on the console\n")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.02)
        try:
            state = Machines(known.directory).all.get(name, {}).get("state")
        except ValueError:
            continue
        if state not in ("running", "paused"):
            break
    os._exit(0)


def main() -> int:
    directory = Path(sys.argv[1])
    quiet, command, *arguments = sys.argv[2:]
    assert quiet == "-q"
    if command not in OPTIONS:
        refuse(f"Invalid command '{command}'")
    with (directory / "calls").open("a") as calls:
        calls.write(json.dumps([command, *arguments]) + "\n")
    words, options = parse(command, arguments)
    known = Machines(directory)
    carry_out(known, command, words, options)
    if command not in ("startvm", "showvminfo"):
        known.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
