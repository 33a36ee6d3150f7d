"""Which runtime a container asks for, and with which options: all are runv's here."""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from ...errors import BadRequest, NotFound, NotSupported
from ..api import runc_options_pb2, runtime_options_pb2
from ..shim import options as shim_options
from .exchange import packed

# Those that dockerd and ctr name when nobody tells them another.
_NAMES = (
    "io.containerd.runv.v2",
    "io.containerd.runc.v2",
    "io.containerd.runc.v1",
    "io.containerd.runtime.v1.linux",
)
_RUNC_OPTIONS = ("containerd.runc.v1.Options", "containerd.linux.runc.RuncOptions")
_RUNV_OPTIONS = "runtimeoptions.v1.Options"


def check_name(name: str) -> None:
    """Raises NotFound for a runtime that can't be meant."""
    if name not in _NAMES:
        raise NotFound(f"runtime {name[:80]!r} is not here: there is {_NAMES[0]}")


def options(given: AnyMessage, defaults: Mapping[str, Any]) -> AnyMessage:
    """A shim's options: what a client gives, over the daemon's own.

    Of runc's options those count that mean something here. Raises BadRequest, NotSupported.
    """
    kind = given.type_url.rpartition("/")[2]
    try:
        if kind in _RUNC_OPTIONS:
            own = _of_runc(runc_options_pb2.Options.FromString(given.value), kind)
        elif kind == _RUNV_OPTIONS:
            own = _of_runv(runtime_options_pb2.Options.FromString(given.value))
        elif kind:
            raise BadRequest(f"options of type {kind[:80]} are not known: there is {_RUNV_OPTIONS}")
        else:
            own = {}
    except DecodeError:
        raise BadRequest(f"the options are no {kind}") from None
    body = _toml({**defaults, **own})
    return packed(runtime_options_pb2.Options(type_url=_NAMES[0], config_body=body))


def _of_runc(given: runc_options_pb2.Options, kind: str) -> dict[str, Any]:
    if kind != _RUNC_OPTIONS[0]:
        return {}
    if given.io_uid or given.io_gid:
        raise NotSupported("pipes of other owners than root (io_uid, io_gid) are not supported")
    return {"systemd_cgroup": True} if given.systemd_cgroup else {}


def _of_runv(given: runtime_options_pb2.Options) -> dict[str, Any]:
    data = given.config_body
    if not data and given.config_path:
        data = shim_options.read_file(given.config_path)
    if len(data) > shim_options.MAX_FILE:
        raise BadRequest(f"runtime options are larger than {shim_options.MAX_FILE >> 20} MiB")
    return shim_options.parse(data, "runtime options")


def _toml(table: Mapping[str, Any]) -> bytes:
    for key, value in table.items():
        if not isinstance(value, str | int | bool):
            raise BadRequest(f"runtime option {key!r}: {value!r} is no string, number or boolean")
    # JSON's strings, numbers and booleans are TOML's as well.
    lines = (f"{json.dumps(k)} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in table.items())
    return "".join(lines).encode()
