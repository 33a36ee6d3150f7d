"""HyperContainer: container images in small virtual machines of their own."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Client

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    """Import late: every command imports this package, few need the client."""
    if name == "Client":
        from .client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
