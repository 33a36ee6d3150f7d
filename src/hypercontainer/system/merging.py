"""Merging of equal pages by the kernel (KSM), for processes that ask for it.

Documentation/admin-guide/mm/ksm.rst of the kernel; prctl(2), PR_SET_MEMORY_MERGE: since Linux 6.4,
and what is executed has it from its parent since 6.7.
"""

from ..errors import NotSupported, VMError

# Nothing is merged; the sandbox processes are; and the VMs too.
OFF, SANDBOXES, ALL = CHOICES = ("off", "sandboxes", "all")
_RUN = "/sys/kernel/mm/ksm/run"


def check() -> None:
    """Raises NotSupported where the kernel can't merge memory of whole processes."""
    from . import syscalls

    if syscalls.memory_merge() is None:
        raise NotSupported(
            "memory can't be merged by this kernel, which has no KSM for processes (Linux 6.7 has):"
            f" leave MemoryMerge {OFF}"
        )


def trouble() -> str:
    """Why nothing is merged though processes ask for it, "" when it is."""
    try:
        with open(_RUN) as file:
            running = file.read().strip() == "1"
    except OSError:
        running = False
    return "" if running else f"KSM does not run, so no memory is merged: echo 1 > {_RUN}"


def allow(wanted: bool) -> None:
    """Have this process's memory merged or not, and that of what it forks or executes from now on.

    Raises VMError.
    """
    from . import syscalls

    if bool(syscalls.memory_merge()) == wanted:
        return
    try:
        syscalls.set_memory_merge(wanted)
    except OSError as error:
        raise VMError(f"merging of memory: {error}") from error
