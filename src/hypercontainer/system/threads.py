"""Work in other namespaces or directories, each in a thread that enters them and ends."""

import os

from ..quick import threads
from ..quick.types import Callable, T
from . import syscalls


def in_network_namespace(namespace: int, work: Callable[[], T]) -> T:
    """Run `work` in the network namespace of a descriptor; returns its result."""
    return _in_thread(lambda: syscalls.setns(namespace, syscalls.CLONE_NEWNET), work)


def in_mount_namespace(namespace: int, work: Callable[[], T]) -> T:
    """Run `work` in the mount namespace of a descriptor; returns its result."""

    def enter() -> None:
        syscalls.unshare(syscalls.CLONE_FS)
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)

    return _in_thread(enter, work)


def in_directory(path: str, work: Callable[[], T]) -> T:
    """Run `work` with `path` as working directory; returns its result."""

    def enter() -> None:
        syscalls.unshare(syscalls.CLONE_FS)
        os.chdir(path)

    return _in_thread(enter, work)


def _in_thread(enter: Callable[[], None], work: Callable[[], T]) -> T:
    def run() -> T:
        enter()
        return work()

    return threads.start(run)()
