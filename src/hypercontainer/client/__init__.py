"""The client of hyperd's REST API: what `hyper` is made of, and a library of its own.

>>> from hypercontainer import Client
>>> Client().run("busybox", ["uname", "-r"]).stdout
b'6.1.176\\n'
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aio import AsyncClient, AsyncContainer
    from .api import Client
    from .container import Container, Result
    from .filesets import TooLarge
    from .streams import Demultiplexer, RawStream
    from .tls import TLS
    from .transport import DaemonUnavailable

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncContainer",
    "Client",
    "Container",
    "DaemonUnavailable",
    "Demultiplexer",
    "RawStream",
    "Result",
    "TooLarge",
]

_HOMES = {
    "TLS": "tls",
    "AsyncClient": "aio",
    "AsyncContainer": "aio",
    "Client": "api",
    "Container": "container",
    "DaemonUnavailable": "transport",
    "Demultiplexer": "streams",
    "RawStream": "streams",
    "Result": "container",
    "TooLarge": "filesets",
}


def __getattr__(name: str) -> object:
    """Import late: the command line pays only for what it uses."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
