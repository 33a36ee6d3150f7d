#!/usr/bin/env python3
"""Builds the initrd that a VM starts from: hyperstart as `/init`, and the modules of a kernel.

The same inputs give the same bytes: no time stamps, no owners, one order. The archive is a plain
`newc` cpio (Documentation/driver-api/early-userspace/buffer-format.rst of Linux), not compressed,
because an emulated CPU unpacks slower than QEMU copies.
"""

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

# hyperstart loads the files of this directory in the order of their names.
MODULES_DIRECTORY = "modules"
# What a signed module ends with: the signature, struct module_signature (12 bytes, the last four
# the signature's length, big endian) and this text (include/linux/module_signature.h).
SIGNATURE_MAGIC = b"~Module signature appended~\n"
DIRECTORIES = ("dev", "proc", "run", "sys", "tmp")


class Entry(NamedTuple):
    """A file of the archive; `device` is (major, minor) of a device node."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: list[Entry]) -> bytes:
    """The cpio archive of the entries, in their order."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (
            *(inode, entry.mode, 0, 0, links, 0, len(entry.data)),
            *(0, 0, *entry.device, len(name), 0),
        )
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


def without_signature(module: bytes) -> bytes:
    """The module less its signature: checking one takes an emulated CPU 10 ms and more."""
    if not module.endswith(SIGNATURE_MAGIC):
        return module
    end = len(module) - len(SIGNATURE_MAGIC)
    length = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - 12 - length]


def initrd(init: Path, modules: list[Path]) -> bytes:
    """The archive with `init` as `/init` and the modules, to be loaded in their order."""
    entries = [Entry(name, stat.S_IFDIR | 0o755) for name in DIRECTORIES]
    entries += [
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry("init", stat.S_IFREG | 0o755, init.read_bytes()),
    ]
    if modules:
        entries.append(Entry(MODULES_DIRECTORY, stat.S_IFDIR | 0o755))
    for module in modules:
        name = f"{MODULES_DIRECTORY}/{module.name}"
        entries.append(Entry(name, stat.S_IFREG | 0o644, without_signature(module.read_bytes())))
    return archive(entries)


def write(output: Path, data: bytes) -> None:
    """Leave an archive at a path, unless it is there already."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists() and output.read_bytes() == data:
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(output)
    print(f"initrd: {output} ({len(data) / 1e3:.0f} kB)")


def main() -> int:
    """Write an initrd, unless it is there already."""
    parser = argparse.ArgumentParser(description="build the initrd of the guest")
    parser.add_argument("--init", type=Path, required=True, help="the hyperstart binary")
    parser.add_argument("--modules", type=Path, help="directory of modules, named in order")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    modules = sorted(arguments.modules.iterdir()) if arguments.modules else []
    write(arguments.output, initrd(arguments.init, modules))
    return 0


if __name__ == "__main__":
    sys.exit(main())
