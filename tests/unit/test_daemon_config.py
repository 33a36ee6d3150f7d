"""The configuration file: every key, and errors with file and line."""

from pathlib import Path

import pytest

from hypercontainer.daemon import config as configuration
from hypercontainer.daemon.config import Config, check, load
from hypercontainer.daemon.config_keys import KEYS
from hypercontainer.daemon.main import configure, parser
from hypercontainer.errors import BadRequest, HyperError, NotSupported


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config"
    path.write_text(text)
    return path


def error_of(tmp_path: Path, text: str) -> HyperError:
    with pytest.raises(HyperError) as caught:
        load(write(tmp_path, text))
    return caught.value


def test_all_that_matters_is_read(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.touch()
    config = load(
        write(
            tmp_path,
            f"""# a comment
Root = /srv/hyper
Host=tcp://[::1]:1246
Kernel="{kernel}"
hypervisor = KVM
StorageBaseSize = 3gb
Registry_mirror = a.example, b.example:5000
Initrd =

[Log]
max-size = 10m
max-file = 3
""",
        )
    )
    assert config.root == Path("/srv/hyper")
    assert config.host == ("::1", 1246)
    assert config.kernel == str(kernel)
    assert config.initrd is None
    assert config.storage_base_size == 3 << 30
    assert config.registry_mirrors == ("a.example", "b.example:5000")
    assert config.log.rotation == (10 << 20, 3)
    check(config)


def test_every_default_that_the_table_names_is_accepted(tmp_path: Path) -> None:
    lines = [f"{key.name} = {key.default}" for key in KEYS if not key.section]
    log = [f"{key.name} = {key.default}" for key in KEYS if key.section == "Log"]
    config = load(write(tmp_path, "\n".join([*lines, "[Log]", *log])))
    assert {**config_values(config), "where": {}} == config_values(Config())


def config_values(config: Config) -> dict[str, object]:
    return {name: getattr(config, name) for name in Config.__dataclass_fields__}


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("Rot = /x", BadRequest, "unknown key Rot: did you mean Root?"),
        ("Zzz = 1", BadRequest, "unknown key Zzz"),
        ("max-size = 1m", BadRequest, "unknown key max-size"),
        ("Root = relative", BadRequest, "Root: 'relative' is not an absolute path"),
        ("Root /x", BadRequest, "is not of the form KEY = VALUE"),
        ("Host = 127.0.0.1:80", BadRequest, "Host: '127.0.0.1:80' is not of the form tcp://"),
        ("Host = tcp://127.0.0.1:99999", BadRequest, "Host: "),
        ("Kernel = /no/such/kernel", BadRequest, "Kernel: there is no file /no/such/kernel"),
        ("Hypervisor = bochs", BadRequest, "Hypervisor: 'bochs' is none of"),
        ("Hypervisor = libvirt", NotSupported, "Hypervisor: libvirt is not supported yet"),
        ("MemoryMerge = yes", BadRequest, "MemoryMerge: 'yes' is none of"),
        ("Accel = hax", BadRequest, "Accel: 'hax' is none of"),
        ("BootTimeout = soon", BadRequest, "BootTimeout: 'soon' is not a number of seconds"),
        ("StorageDriver = overlay", NotSupported, "StorageDriver: overlay is not supported yet"),
        ("StorageBaseSize = big", BadRequest, "StorageBaseSize: 'big' is not a size"),
        ("StorageBaseSize = 1k", BadRequest, "StorageBaseSize: '1k' is not between"),
        ("DisableIptables = perhaps", BadRequest, "DisableIptables: 'perhaps' is neither"),
        ("EnableVsock = true", NotSupported, "EnableVsock: true is not supported yet"),
        ("Bridge = a/b", BadRequest, "Bridge: 'a/b' is not the name of a bridge"),
        ("BridgeIP = 10.1.0.0", BadRequest, "no room"),
        ("BridgeIP = fd00::/64", BadRequest, "one IPv4 subnet"),
        ("BridgeMTU = 5", BadRequest, "BridgeMTU: '5' is not a number of bytes"),
        ("Bios = /x/bios.bin", BadRequest, "Bios: there is no file /x/bios.bin"),
        ("Cbfs = cbfs.rom", BadRequest, "Cbfs: 'cbfs.rom' is not an absolute path"),
        ("gRPCHost = 127.0.0.1:22318", NotSupported, "gRPCHost: "),
        ('VmFactoryPolicy = {"cache":-1}', BadRequest, "VmFactoryPolicy: cache: -1 is not"),
        ("Logger = gelf", NotSupported, "Logger: gelf is not supported yet"),
        ("[Net]", BadRequest, "unknown section [Net]"),
        ("[Log", BadRequest, "is not a section"),
    ],
)
def test_errors_name_file_and_line(
    tmp_path: Path, line: str, kind: type[HyperError], says: str
) -> None:
    error = error_of(tmp_path, f"# one\n\n{line}\n")
    assert type(error) is kind
    assert error.message.startswith(f"{tmp_path}/config:3: ")
    assert says in error.message
    assert "\n" not in error.message


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, "Root = /a\nroot = /b\n")
    assert error.message.endswith("config:2: Root was set in line 1 already")


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="there is no configuration file"):
        load(tmp_path / "none")
    monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path / "none")
    assert load(None) == Config()


def test_another_root_has_a_state_directory_of_its_own(tmp_path: Path) -> None:
    assert Config().state_dir == Path("/run/hyper")
    first, second = Config(root=tmp_path / "a").state_dir, Config(root=tmp_path / "b").state_dir
    assert first != second
    assert first.parent == Path("/run/hyper")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "Root = /a\nHost = tcp://127.0.0.1:1\n")
    arguments = ["--config", str(file), "--root", "/b", "--insecure_registry", "x:5000,y"]
    config = configure(parser().parse_args(arguments))
    assert config.root == Path("/b")
    assert config.host == ("127.0.0.1", 1)
    assert config.insecure_registries == ("x:5000", "y")


def test_a_reachable_listener_needs_the_flag(tmp_path: Path) -> None:
    file = write(tmp_path, "\nHost = tcp://0.0.0.0:1246\n")
    with pytest.raises(BadRequest, match=r"config:2: Host 0\.0\.0\.0 can be reached by others"):
        configure(parser().parse_args(["--config", str(file)]))
    config = configure(parser().parse_args(["--config", str(file), "--insecure_host"]))
    assert config.host == ("0.0.0.0", 1246)


def test_a_flash_that_nothing_boots_from_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "cbfs.rom").write_bytes(bytes(4096))
    (tmp_path / "bios.rom").write_bytes(bytes(4096))
    config = load(write(tmp_path, f"Bios={tmp_path}/bios.rom\nCbfs={tmp_path}/cbfs.rom\n"))
    with pytest.raises(BadRequest, match=r"cbfs\.rom: no master header"):
        check(config)


@pytest.mark.parametrize(
    ("lines", "engine"),
    [
        ("", "auto"),
        ("Accel = tcg", "tcg"),
        ("Hypervisor = qemu", "qemu"),
        ("Hypervisor = qemu\nAccel = tcg", "tcg"),
        ("Hypervisor = qemu-kvm", "kvm"),
        ("Hypervisor = Xen", "xen"),
        ("Hypervisor = xenpv", "xenpv"),
    ],
)
def test_the_engine_that_hypervisor_and_accel_name(tmp_path: Path, lines: str, engine: str) -> None:
    assert load(write(tmp_path, lines)).engine == engine


def test_an_engine_of_qemu_is_no_choice_for_xen(tmp_path: Path) -> None:
    config = load(write(tmp_path, "Hypervisor = xen\nAccel = kvm"))
    with pytest.raises(BadRequest, match=":2: Accel kvm is QEMU's: Hypervisor xen has no choice"):
        check(config)
