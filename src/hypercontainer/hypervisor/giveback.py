"""The library that gives memory of VMs back to the host, loaded into QEMU (`giveback/`), and the
stubs of libraries that QEMU is linked to and does not need.

`make kernel` leaves them beside the guest kernels, named by the QEMU that they were tried with:
another QEMU might refuse to start with them, so they are used with that one only.
"""

import os

from ..guest.kernel import INSTALLED, cache_directory

# Seconds for which emulated CPUs must have been idle. It doubles each time, to five minutes.
_PATIENCE = 10
# Libraries that stubs stand for.
_STUBS = ("capstone", "pmem")
# A guest's page that was given back has other content when it is used again: a guest that counts
# on it (init_on_free) reports none then.
_BALLOON = "virtio-balloon-pci,free-page-reporting=on,page-poison=off,deflate-on-oom=on"


def library(qemu: str) -> str:
    """The path of the library for `qemu` (its path), "" when it is not built."""
    try:
        status = os.stat(qemu)
    except OSError:
        return ""
    name = f"hyper-giveback-{status.st_size}-{int(status.st_mtime)}.so"
    paths = (os.path.join(directory, name) for directory in (cache_directory(), INSTALLED))
    # Those who read the path take a comma, a colon or a space for its end.
    return next((path for path in paths if os.path.exists(path) and not set(path) & set(",: ")), "")


def libraries(qemu: str) -> list[str]:
    """The paths of all that `qemu` is to load before its own libraries; none without `library`."""
    path = library(qemu)
    stubs = [f"{path.removesuffix('.so')}-{name}.so" for name in _STUBS]
    return [path, *filter(os.path.exists, stubs)] if path else []


def arguments(qemu: str, accel: str) -> list[str]:
    """What `qemu` is to be told for it."""
    path = library(qemu)
    if not path:
        return []
    plugin = ["-plugin", f"{path},patience={_PATIENCE}"] if accel == "tcg" else []
    return ["-device", _BALLOON, *plugin]


def environment(qemu: str) -> dict[str, str]:
    """The environment of `qemu`: this process's, and what makes it load the libraries."""
    paths = libraries(qemu)
    # GLib's own allocator never gives back what dropped translations took of it: 3 MB.
    own = {"LD_PRELOAD": " ".join(paths), "G_SLICE": "always-malloc"} if paths else {}
    return {**os.environ, **own}
