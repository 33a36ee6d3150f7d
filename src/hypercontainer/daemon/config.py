"""The configuration of hyperd: /etc/hyper/config (INI) and the flags, which win.

What keys there are is in config_keys.py.
"""

import difflib
import hashlib
import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import BadRequest, NotSupported
from ..hypervisor.engines import ENGINES, QEMU
from ..networks import Subnet
from ..pods.factory import Factory
from ..pods.logconfig import LogConfig, parse_log
from ..system import merging
from .config_keys import DEFAULT_ROOT, DEFAULT_SOCKET, KEYS, Key
from .config_values import ACTIVATION

DEFAULT_FILE = Path("/etc/hyper/config")
DEFAULT_STATE = Path("/run/hyper")


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
    memory_merge: str = merging.OFF
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


def check(config: Config) -> None:
    """What only the whole can tell. Raises BadRequest, NotSupported."""
    _ = config.log
    if config.memory_merge != merging.OFF:
        merging.check()
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
