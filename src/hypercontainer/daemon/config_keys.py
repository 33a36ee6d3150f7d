"""The keys of hyperd's configuration, each with its default and meaning.

docs/hyperd.md has them as a table, held by a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..hypervisor.engines import ENGINES
from ..pods.factory import parse_factory
from ..pods.logconfig import DRIVERS, OPTION_NAMES
from ..system import merging
from .config_values import (
    FALSE,
    absolute_path,
    anything,
    boolean,
    bridge_name,
    existing_file,
    mtu,
    one_of,
    only,
    parse_host,
    path_text,
    seconds,
    size,
    subnets,
    words,
)

DEFAULT_ROOT = Path("/var/lib/hyper")
DEFAULT_SOCKET = Path("/var/run/hyper.sock")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file: its default as it would be written there, and what it means.

    `read` checks a value and gives what `Config` keeps in `attribute` ("" for
    a key that has no effect yet). It raises BadRequest or NotSupported with
    the rest of a sentence.
    """

    name: str
    default: str
    doc: str
    read: Callable[[str], object]
    attribute: str = ""
    section: str = ""


_DRIVERS = ("overlay", "overlay2", "aufs", "btrfs", "devicemapper", "rawblock", "vbox")
_HYPERVISORS = ("libvirt", "kvmtool")
_LOGGERS = ("gelf", "fluentd")

KEYS = (
    Key("Root", str(DEFAULT_ROOT), "images, containers, volumes, database", absolute_path, "root"),
    Key(
        "StateDir",
        "",
        "sockets and states of running VMs; empty: /run/hyper, or below it for another Root",
        absolute_path,
        "state",
    ),
    Key("Socket", str(DEFAULT_SOCKET), "the unix socket of the API", absolute_path, "socket"),
    Key(
        "Host",
        "",
        "another listener, tcp://ADDRESS:PORT; whoever reaches it is root on this machine,"
        " so only loopback is taken unless hyperd runs with --insecure_host; fd:// needs"
        " sockets passed by systemd, which are used in any case",
        parse_host,
        "host",
    ),
    Key("TlsCert", "", "hyperd's certificate: Host is by TLS then", path_text, "tls_cert"),
    Key("TlsKey", "", "the key of TlsCert, without a password", path_text, "tls_key"),
    Key(
        "TlsCA",
        "",
        "who signs the certificates that clients must show; then Host may be any address",
        path_text,
        "tls_ca",
    ),
    Key(
        "Kernel",
        "",
        "the guest's kernel; empty: hyperkernel, else Debian's",
        existing_file,
        "kernel",
    ),
    Key(
        "Initrd",
        "",
        "the guest's initrd; empty: the one built with the kernel",
        existing_file,
        "initrd",
    ),
    Key(
        "Hypervisor",
        "auto",
        "auto: Xen on its control domain, else QEMU; qemu; qemu-kvm and kvm: with KVM or not at"
        " all; tcg: emulation; xen: PVH guests of Xen; xenpv: its PV guests;"
        " vbox: VirtualBox, uml: User Mode Linux, both experimental; see"
        " [hypervisors](hypervisors.md)",
        one_of("auto", "qemu", "qemu-kvm", *ENGINES, unsupported=_HYPERVISORS),
        "hypervisor",
    ),
    Key(
        "Accel",
        "auto",
        "the engine of QEMU: auto, kvm or tcg (emulation)",
        one_of("auto", "kvm", "tcg"),
        "accel",
    ),
    Key(
        "Template",
        "auto",
        "auto: clone a booted VM, and make the template when there is none; use; off: boot",
        one_of("auto", "use", "off"),
        "template",
    ),
    Key(
        "ShareDriver",
        "9p",
        "how directories get into a VM: 9p or virtiofs; see [volumes](volumes.md)",
        one_of("9p", "virtiofs"),
        "share_driver",
    ),
    Key(
        "MemoryMerge",
        "off",
        "whose equal pages the kernel may merge (KSM): off; sandboxes: of the processes beside the"
        " VMs; all: of the VMs too, which tells a guest what others have in memory; see"
        " [performance](performance.md#merging-of-memory)",
        one_of(*merging.CHOICES),
        "memory_merge",
    ),
    Key(
        "BootTimeout",
        "",
        "seconds that a guest may take to come up; empty: by engine and load",
        seconds,
        "boot_timeout",
    ),
    Key("StorageDriver", "block", "block", one_of("block", "auto", unsupported=_DRIVERS)),
    Key(
        "StorageBaseSize",
        "10gb",
        "the size that a container's disk may grow to",
        size,
        "storage_base_size",
    ),
    Key(
        "Registry_mirror",
        "",
        "registries asked before the public one, separated by commas",
        words,
        "registry_mirrors",
    ),
    Key(
        "Insecure_registry",
        "",
        "registries spoken to without TLS, separated by commas",
        words,
        "insecure_registries",
    ),
    Key(
        "Logger",
        "json-file",
        "the log driver of containers that name none: " + ", ".join(DRIVERS),
        one_of(*DRIVERS, unsupported=_LOGGERS),
        "logger",
    ),
    Key(
        "Bios",
        "",
        "the firmware of VMs; empty: QEMU's qboot, with Cbfs the project's own",
        existing_file,
        "bios",
    ),
    Key(
        "Cbfs",
        "",
        "a flash that holds kernel and initrd, which VMs boot from then; see"
        " [firmware](firmware.md)",
        existing_file,
        "cbfs",
    ),
    Key(
        "Bridge",
        "hyper0",
        "the bridge of the default network, made when it is first used; none: no default network",
        bridge_name,
        "bridge",
    ),
    Key(
        "BridgeIP",
        "192.168.123.0/24",
        "the default network: its IPv4 subnet, of which the bridge has the first address"
        " (or the one given), and after a comma its IPv6 subnet",
        subnets,
        "bridge_subnets",
    ),
    Key("BridgeMTU", "1500", "the MTU of the default network, in bytes", mtu, "bridge_mtu"),
    Key(
        "DisableIptables",
        "false",
        "leave the firewall alone: no NAT, no isolation; published ports are passed on by the"
        " pods' sandboxes",
        boolean,
        "disable_rules",
    ),
    Key(
        "EnableVsock",
        "false",
        "not supported: guests are reached by virtio-serial, whose channels are each VM's own",
        only(*FALSE),
    ),
    Key(
        "VmFactoryPolicy",
        "",
        'VMs kept ready: `{"cache":N, "template":true, "cpu":N, "memory":MIB}, …`;'
        " empty: one of the last pod's size, for five minutes",
        parse_factory,
        "factory",
    ),
    Key("gRPCHost", "", "not supported yet", only()),
    Key("GDBTCPPort", "0", "not supported yet", only("0")),
    Key("BufferGoroutinesMax", "0", "not supported yet", only("0")),
    Key("BufferChannelSize", "1024", "no effect", anything),
    Key(
        "PodLogPrefix",
        "",
        "the directory of logs; empty: each is with its container's disk",
        absolute_path,
        "log_prefix",
        "Log",
    ),
    Key(
        "PodIdInPath",
        "true",
        "each pod has a directory of its own in PodLogPrefix",
        boolean,
        "pod_in_log_path",
        "Log",
    ),
    *(
        Key(name, "", "an option of the log driver: see [logs](logs.md)", anything, "", "Log")
        for name in OPTION_NAMES
    ),
)


def by_name(name: str) -> Key:
    """A key of the unnamed section."""
    return next(key for key in KEYS if key.name == name and not key.section)


def markdown_table() -> str:
    """The keys as docs/hyperd.md shows them."""
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key in KEYS:
        name = f"`[{key.section}] {key.name}`" if key.section else f"`{key.name}`"
        default = f"`{key.default}`" if key.default else ""
        rows.append(f"| {name} | {default} | {key.doc} |")
    return "\n".join(rows) + "\n"
