"""The core: one sandbox process per VM owns the hypervisor, the guest and every stream.

Front doors use what this package exports and nothing below it.
"""

from ..quick.types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..hypervisor.orphans import end_orphans
    from .client import ExitStatus, SandboxClient, connect
    from .config import VMConfig, vm_memory, vm_size
    from .launcher import launch
    from .machines import check_firmware
    from .state import SandboxState, read_state
    from .zygote import Zygote

__all__ = [
    "ExitStatus",
    "SandboxClient",
    "SandboxState",
    "VMConfig",
    "Zygote",
    "check_firmware",
    "connect",
    "end_orphans",
    "launch",
    "read_state",
    "vm_memory",
    "vm_size",
]

_HOMES = {
    "ExitStatus": "client",
    "SandboxClient": "client",
    "SandboxState": "state",
    "VMConfig": "config",
    "Zygote": "zygote",
    "check_firmware": "machines",
    "connect": "client",
    "end_orphans": "hypercontainer.hypervisor.orphans",
    "launch": "launcher",
    "read_state": "state",
    "vm_memory": "config",
    "vm_size": "config",
}


def __getattr__(name: str) -> Any:
    """Import late: `runv state` must not pay for asyncio."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    # Not importlib, which imports warnings.
    module = __import__(home if "." in home else f"{__name__}.{home}", fromlist=(name,))
    return getattr(module, name)
