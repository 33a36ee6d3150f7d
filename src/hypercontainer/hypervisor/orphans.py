"""Virtual machines that outlived both their sandbox and the process that stood for them.

A VMM that is a process dies with its sandbox. What a hypervisor beside the host's kernel runs does
not, when both are killed at the same moment.
"""

from . import engines


def end_orphans() -> list[str]:
    """End them; their names. Nobody else's are touched. Raises VMError."""
    if not engines.is_control_domain():
        return []
    from . import xen_domain
    from .xenstore import XenStore

    store = XenStore()
    try:
        return xen_domain.sweep(store)
    finally:
        store.close()


def find_orphans() -> list[str]:
    """Their names. Raises VMError."""
    if not engines.is_control_domain():
        return []
    from . import xen_domain
    from .xenstore import XenStore

    store = XenStore()
    try:
        return list(xen_domain.orphans(store).values())
    finally:
        store.close()
