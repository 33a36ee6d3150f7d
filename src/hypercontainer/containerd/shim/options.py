"""The runtime's options: a TOML file that a container's creation names, or has in it.

As `ConfigPath` of containerd's CRI plugin, `ctr run --runtime-config-path`, and dockerd's
`runtimes` give it (runtimeoptions.v1.Options).
"""

from typing import TYPE_CHECKING, Any

from ...errors import BadRequest, HyperError
from ...hypervisor.engines import CHOICES
from ...oci.making import Settings

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

MAX_FILE = 1 << 20
_TEMPLATES = ("auto", "use", "off")
_SHARES = ("9p", "virtiofs")
_WORDS = {str: "string", int: "whole number", bool: "boolean"}
_KINDS: dict[str, type] = {
    "kernel": str,
    "initrd": str,
    "bios": str,
    "cbfs": str,
    "memory": int,
    "cpus": int,
    "driver": str,
    "share": str,
    "template": str,
    "cache": int,
    "systemd_cgroup": bool,
}
OPTIONS = tuple(_KINDS)


def read(options: "AnyMessage", root: str) -> Settings:
    """The settings of a container in `root`.

    Raises BadRequest naming the option.
    """
    table, where = _table(options)
    return settings(table, where, root)


def _table(options: "AnyMessage") -> tuple[dict[str, Any], str]:
    from google.protobuf.message import DecodeError

    from ..api import runtime_options_pb2

    kind = options.type_url.rpartition("/")[2]
    if not kind:
        return {}, ""
    if kind != "runtimeoptions.v1.Options":
        raise BadRequest(
            f"options of type {kind} are not runv's: give a TOML file by runtimeoptions.v1.Options"
            " (ConfigPath)"
        )
    try:
        given = runtime_options_pb2.Options.FromString(options.value)
    except DecodeError:
        raise BadRequest("the runtime's options are not a protobuf") from None
    if given.config_body:
        return parse(given.config_body, "the runtime's options"), "the runtime's options"
    if not given.config_path:
        return {}, ""
    return parse(read_file(given.config_path), given.config_path), given.config_path


def read_file(path: str) -> bytes:
    """A file of options. Raises BadRequest."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise BadRequest(f"runtime options {path}: {reason}") from None
    if len(data) > MAX_FILE:
        raise BadRequest(f"runtime options {path}: larger than {MAX_FILE >> 20} MiB")
    return data


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The table of a TOML file, unchecked. Raises BadRequest."""
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{where}: not TOML: {error}") from None


def settings(table: dict[str, Any], where: str, root: str) -> Settings:
    """The settings that a table of options gives. Raises BadRequest."""
    for name, value in table.items():
        kind = _KINDS.get(name)
        if kind is None:
            known = ", ".join(OPTIONS)
            raise BadRequest(f"{where}: unknown option {name!r}: there are {known}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadRequest(f"{where}: {name}: {value!r} is no {_WORDS[kind]}")
    choices_of = (("driver", CHOICES), ("template", _TEMPLATES), ("share", _SHARES))
    for name, choices in choices_of:
        if name in table and table[name] not in choices:
            raise BadRequest(f"{where}: {name}: {table[name]!r} is none of {', '.join(choices)}")
    if table.get("cache", 0) < 0:
        raise BadRequest(f"{where}: cache: {table['cache']} is negative")
    made = Settings(
        root=root,
        systemd_cgroup=table.get("systemd_cgroup", False),
        cache=table.get("cache", 1),
        driver=table.get("driver", "auto"),
        kernel=table.get("kernel"),
        initrd=table.get("initrd"),
        bios=table.get("bios"),
        cbfs=table.get("cbfs"),
        cpus=table.get("cpus", 1),
        memory_mib=table.get("memory", 128),
        template=table.get("template", "auto"),
        share=table.get("share", "9p"),
    )
    _check_machine(made, where)
    return made


def _check_machine(made: Settings, where: str) -> None:
    from ...sandbox import VMConfig

    try:
        VMConfig(cpus=made.cpus, memory_mib=made.memory_mib).validate()
    except HyperError as error:
        raise BadRequest(f"{where}: {error.message}") from None
