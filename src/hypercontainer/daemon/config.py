"""The configuration of hyperd: /etc/hyper/config (INI) and the flags, which win.

`KEYS` is the whole of it; docs/hyperd.md has the same table, held by a test.
"""

import difflib
import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import BadRequest, NotSupported
from ..hypervisor.engines import ENGINES, QEMU
from ..networks import Subnet
from ..pods.factory import Factory, parse_factory
from ..pods.logconfig import DRIVERS, OPTION_NAMES, LogConfig, parse_log
from .config_values import (
    ACTIVATION,
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

DEFAULT_FILE = Path("/etc/hyper/config")
DEFAULT_ROOT = Path("/var/lib/hyper")
DEFAULT_STATE = Path("/run/hyper")
DEFAULT_SOCKET = Path("/var/run/hyper.sock")


@dataclass(slots=True)
class Config:
    """The settings. `storage_base_size` is in bytes, `boot_timeout` in seconds."""

    root: Path = DEFAULT_ROOT
    state: Path | None = None
    socket: Path = DEFAULT_SOCKET
    host: tuple[str, int] | None = None
    kernel: str | None = None
    initrd: str | None = None
    bios: str | None = None
    cbfs: str | None = None
    accel: str = "auto"
    hypervisor: str = "auto"
    template: str = "auto"
    share_driver: str = "9p"
    factory: Factory = field(default_factory=Factory)
    boot_timeout: float | None = None
    storage_base_size: int = 10 << 30
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    logger: str = "json-file"
    log_options: dict[str, str] = field(default_factory=dict)
    log_prefix: Path | None = None
    pod_in_log_path: bool = True
    insecure_host: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    tls_verify: bool = False
    debug: bool = False
    bridge: str = "hyper0"
    bridge_subnets: tuple[Subnet, ...] = (Subnet("192.168.123.0/24", "192.168.123.1"),)
    bridge_mtu: int = 1500
    disable_rules: bool = False
    where: dict[str, str] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        """The engine wanted: what Hypervisor says, and of QEMU's what Accel says."""
        wanted = "kvm" if self.hypervisor == "qemu-kvm" else self.hypervisor
        chooses = wanted == "auto" or (wanted == "qemu" and self.accel != "auto")
        return self.accel if chooses else wanted

    @property
    def log(self) -> LogConfig:
        """The log driver of containers that say nothing else. Raises BadRequest, NotSupported."""
        for name, value in self.log_options.items():
            where = self.where.get(name, "")
            parse_log(self.logger, {name: value}, "Logger", f"{where}: ")
        return LogConfig(self.logger, self.log_options)

    @property
    def state_dir(self) -> Path:
        """The runtime directory: that of the default Root, or one of this Root's own."""
        if self.state is not None:
            return self.state
        if self.root == DEFAULT_ROOT:
            return DEFAULT_STATE
        return DEFAULT_STATE / ("root-" + hashlib.sha256(bytes(self.root)).hexdigest()[:8])


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


def load(path: Path | None) -> Config:
    """Read a configuration file; without `path` the default one, if there is one.

    Raises BadRequest or NotSupported naming file and line.
    """
    config = Config()
    file = path or DEFAULT_FILE
    try:
        text = file.read_text()
    except FileNotFoundError:
        if path is not None:
            raise BadRequest(f"there is no configuration file {file}") from None
        return config
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"read the configuration {file}: {error}") from error
    _read(config, str(file), text)
    return config


def _read(config: Config, file: str, text: str) -> None:
    section = ""
    seen: dict[tuple[str, str], int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line, where = raw.strip(), f"{file}:{number}"
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = _section(line, where)
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise BadRequest(f"{where}: {line!r} is not of the form KEY = VALUE")
        key = _key(name, section, where)
        if (before := seen.setdefault((section, key.name), number)) != number:
            raise BadRequest(f"{where}: {key.name} was set in line {before} already")
        set_key(config, key, _unquoted(value), where)


def _section(line: str, where: str) -> str:
    name = line.strip("[]").strip()
    if not line.endswith("]"):
        raise BadRequest(f"{where}: {line!r} is not a section such as [Log]")
    if name.lower() in ("", "default"):
        return ""
    if name.lower() == "log":
        return "Log"
    raise BadRequest(f"{where}: unknown section [{name}]: there is [Log] only")


def _key(name: str, section: str, where: str) -> Key:
    known = {key.name.lower(): key for key in KEYS if key.section == section}
    if key := known.get(name.lower()):
        return key
    close = difflib.get_close_matches(name.lower(), known, 1)
    hint = f": did you mean {known[close[0]].name}?" if close else ": see docs/hyperd.md"
    raise BadRequest(f"{where}: unknown key {name}{hint}")


def set_key(config: Config, key: Key, value: str, where: str) -> None:
    """Set a key from its text; an empty one means the default. Raises with `where`."""
    if not value:
        return
    try:
        result = key.read(value)
    except (BadRequest, NotSupported) as error:
        raise type(error)(f"{where}: {key.name}: {error.message}") from None
    if key.section == "Log" and not key.attribute:
        config.log_options[key.name] = value
        config.where[key.name] = where
    if key.attribute:
        setattr(config, key.attribute, result)
        config.where[key.attribute] = where


def by_name(name: str) -> Key:
    """A key of the unnamed section."""
    return next(key for key in KEYS if key.name == name and not key.section)


def check(config: Config) -> None:
    """What only the whole can tell. Raises BadRequest, NotSupported."""
    _ = config.log
    if config.bios or config.cbfs:
        check_boot_files(config)
    if config.hypervisor in set(ENGINES) - set(QEMU) and config.accel != "auto":
        raise BadRequest(
            f"{config.where['accel']}: Accel {config.accel} is QEMU's: Hypervisor"
            f" {config.hypervisor} has no choice of engines"
        )
    if config.host not in (None, ACTIVATION):
        check_exposure(config, config.host[0], config.where.get("host", "--host"))


def check_boot_files(config: Config) -> str:
    """What is to be warned of Bios and Cbfs. Raises HyperError when VMs can't boot from them."""
    from ..sandbox import VMConfig, check_firmware

    return check_firmware(
        VMConfig(kernel=config.kernel, initrd=config.initrd, bios=config.bios, cbfs=config.cbfs)
    )


def check_exposure(config: Config, address: str, where: str) -> None:
    """Raises BadRequest when others can reach a listener, unless the flag for that was given."""
    if config.insecure_host or config.tls_ca or is_loopback(address):
        return
    raise BadRequest(
        f"{where}: Host {address} can be reached by others, who would be root on this machine:"
        " use 127.0.0.1, or TLS with TlsCA, or --insecure_host if you understand that"
    )


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


assert {key.attribute for key in KEYS if key.attribute} <= {f.name for f in fields(Config)}


def markdown_table() -> str:
    """The keys as docs/hyperd.md shows them."""
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key in KEYS:
        name = f"`[{key.section}] {key.name}`" if key.section else f"`{key.name}`"
        default = f"`{key.default}`" if key.default else ""
        rows.append(f"| {name} | {default} | {key.doc} |")
    return "\n".join(rows) + "\n"
