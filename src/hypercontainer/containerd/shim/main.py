"""The entry point of containerd-shim-runv-v2, by containerd's conventions for shims.

`start` prints the address of a server that it leaves behind: one that `nursery` forks, or, where
there is none yet, one forked off before anything heavy is loaded, which happens while containerd
connects. `delete` cleans up after one that
was killed. Flags have Go's form, with one dash.
"""

import os
import sys
from typing import NamedTuple

NAME = "io.containerd.runv.v2"
_MAX_OPTIONS = 4 << 20
# A container names the group whose shim serves it: Kubernetes' pods, or whoever wants it so.
_GROUPS = (
    "io.containerd.runv.v2.group",
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
)
_VALUES = ("namespace", "id", "address", "publish-binary", "bundle", "socket")
_SWITCHES = ("debug", "v", "info")


class Flags(NamedTuple):
    """The command line."""

    values: dict[str, str]
    switches: frozenset[str]
    action: str

    def need(self, name: str) -> str:
        """A flag's value. Raises BadRequest when there is none."""
        if not self.values.get(name):
            from ...errors import BadRequest

            raise BadRequest(f"-{name} is needed")
        return self.values[name]


def parse(argv: list[str]) -> Flags:
    """Flags until the first word, which is the action. Raises BadRequest."""
    from ...errors import BadRequest

    values: dict[str, str] = {}
    switches = set()
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        name, has_value, value = rest.pop(0).lstrip("-").partition("=")
        if name in _SWITCHES:
            switches.add(name)
        elif name not in _VALUES:
            raise BadRequest(f"flag provided but not defined: -{name}")
        elif has_value:
            values[name] = value
        elif not rest:
            raise BadRequest(f"flag needs an argument: -{name}")
        else:
            values[name] = rest.pop(0)
    return Flags(values, frozenset(switches), rest[0] if rest else "")


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    from ...errors import BadRequest, HyperError

    try:
        flags = parse(sys.argv[1:] if argv is None else argv)
        if "v" in flags.switches:
            return _version()
        if "info" in flags.switches:
            return _info()
        if flags.action == "start":
            return _start(flags)
        if flags.action == "delete":
            return _delete(flags)
        raise BadRequest(f"action {flags.action!r}: start or delete is expected")
    except HyperError as error:
        sys.stderr.write(f"containerd-shim-runv-v2: {error.message}\n")
    except OSError as error:
        sys.stderr.write(f"containerd-shim-runv-v2: {error}\n")
    return 1


def _version() -> int:
    from ... import __version__

    sys.stdout.write(f"containerd-shim-runv-v2 version {__version__}\n")
    return 0


def _info() -> int:
    """Print the RuntimeInfo; the runtime's options come on stdin and go back with it."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.message import DecodeError

    from ... import __version__
    from ...errors import BadRequest
    from ...oci.features import document
    from ..api import types_pb2

    try:
        given = AnyMessage.FromString(sys.stdin.buffer.read(_MAX_OPTIONS))
    except DecodeError:
        raise BadRequest("the options on stdin are not a protobuf") from None
    info = types_pb2.RuntimeInfo(
        name=NAME,
        version=types_pb2.RuntimeVersion(version=__version__),
        options=given if given.type_url else None,
        features=AnyMessage(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/features/Features",
            value=document().encode(),
        ),
    )
    sys.stdout.buffer.write(info.SerializeToString())
    return 0


def _start(flags: Flags) -> int:
    """Print the address of the server of this container's group, started if there is none."""
    from . import address, nursery

    namespace, cid = flags.need("namespace"), flags.need("id")
    containerd = flags.values.get("address", "")
    bundle = os.getcwd()
    path = address.socket_path(containerd, namespace, group_of(bundle) or cid)
    address.root_of(namespace)
    listener = address.listen(path)
    told = address.write(bundle, path)
    if listener is not None:
        if not nursery.hand_over(listener, path, flags) and os.fork() == 0:
            from .serve import serve

            serve(listener, path, flags, nursery=True)
        listener.close()
    sys.stdout.write(_bootstrap(told))
    return 0


def group_of(bundle: str) -> str:
    """The group that a bundle's annotations name; "" for none. Raises BadRequest."""
    from ...oci.bundle import read_json

    annotations = read_json(os.path.join(bundle, "config.json"), "bundle").get("annotations")
    if not isinstance(annotations, dict):
        return ""
    return next((str(annotations[key]) for key in _GROUPS if annotations.get(key)), "")


def _bootstrap(told: str) -> str:
    """The address, in JSON for a containerd (1.7 and later) that says that it reads that."""
    if not os.environ.get("MAX_SHIM_VERSION", "").isdigit():
        return told
    import json

    return json.dumps({"version": 2, "address": told, "protocol": "ttrpc"})


def _delete(flags: Flags) -> int:
    from . import cleanup

    cleanup.clean(flags.need("namespace"), flags.need("id"), flags.values.get("bundle", ""))
    sys.stdout.buffer.write(cleanup.response())
    return 0
