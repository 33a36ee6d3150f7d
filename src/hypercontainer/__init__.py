"""HyperContainer: container images in small virtual machines of their own."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import AsyncClient, Client, Container, Result

__all__ = ["AsyncClient", "Client", "Container", "Result", "__version__"]


def __getattr__(name: str) -> object:
    """Import late: every command imports this package, few need the client."""
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
