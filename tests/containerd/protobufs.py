"""Protocol buffers of installed Go programs, for clients in tests.

A Go program carries the descriptors of its messages and services, gzipped, so that a client made
of them speaks what that very program speaks (descriptor.proto, `FileDescriptorProto`).
"""

import functools
import re
import zlib
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_GZIP = re.compile(rb"\x1f\x8b\x08\x00")
_GZIP_WINDOW = 31
_MOST = 1 << 20


@functools.cache
def messages(program: Path, package: str) -> dict[str, Any]:
    """The message classes of a package that a program has compiled in, by their names.

    Services and their methods can be had of `services`.
    """
    return {
        name: message_factory.GetMessageClass(descriptor)
        for name, descriptor in _file(program, package).message_types_by_name.items()
    }


def services(program: Path, package: str) -> dict[str, Any]:
    """The descriptors of the services of a package, by their names."""
    return dict(_file(program, package).services_by_name)


def enumerations(program: Path, package: str) -> dict[str, Any]:
    """The descriptors of the enumerations of a package, by their names."""
    return dict(_file(program, package).enum_types_by_name)


@functools.cache
def _file(program: Path, package: str) -> Any:
    proto = _find(program, package)
    # Options by extensions of gogo's say how Go shows a field, which nobody asks here.
    del proto.dependency[:]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return pool.FindFileByName(proto.name)


def _find(program: Path, package: str) -> descriptor_pb2.FileDescriptorProto:
    data = program.read_bytes()
    for match in _GZIP.finditer(data):
        try:
            unpacked = zlib.decompressobj(_GZIP_WINDOW).decompress(
                data[match.start() : match.start() + _MOST], _MOST
            )
            proto = descriptor_pb2.FileDescriptorProto.FromString(unpacked)
        except (zlib.error, DecodeError):
            continue
        if proto.package == package:
            return proto
    raise LookupError(f"{program} has no protocol buffers of the package {package}")
