"""Loop devices: files as block devices of the host. See loop(4)."""

import errno
import fcntl
import os
import struct

from ..errors import HyperError

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
# struct loop_config: descriptor, block size, struct loop_info64 (flags at 52), reserved.
_CONFIG_SIZE, _FLAGS_AT = 304, 8 + 52
_TRIES = 32


def attach(file: int, *, read_only: bool, direct: bool = False) -> tuple[int, str]:
    """A loop device of an opened file: its descriptor and path.

    It ends when nobody has it open any more. With `direct` the page cache is passed by. Locks of
    the open file are kept as long. Raises HyperError.
    """
    try:
        with open(_CONTROL, "rb") as control:
            for _ in range(_TRIES):
                path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
                device = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
                if _configure(device, file, read_only, direct):
                    return device, path
                os.close(device)
    except FileNotFoundError as error:
        raise HyperError(f"{error.filename} does not exist: modprobe loop") from None
    except OSError as error:
        raise HyperError(f"loop device: {(error.strerror or '').lower()}") from error
    raise HyperError("loop device: others took each that was free")


def _configure(device: int, file: int, read_only: bool, direct: bool) -> bool:
    """False when somebody else has taken it."""
    config = bytearray(_CONFIG_SIZE)
    struct.pack_into("=I", config, 0, file)
    flags = _AUTOCLEAR | (_READ_ONLY if read_only else 0) | (_DIRECT_IO if direct else 0)
    struct.pack_into("=I", config, _FLAGS_AT, flags)
    try:
        fcntl.ioctl(device, _CONFIGURE, config)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        os.close(device)
        raise
    return True
