"""Values as people write them: sizes and signals."""

import re
import signal

from ..errors import BadRequest

_SIZE = re.compile(r"(\d{1,12})([kmg]?)", re.ASCII)


def parse_size(value: str, where: str) -> int:
    """A size in bytes such as `10m`, `10gb` or `65536`. Raises BadRequest naming `where`."""
    match = _SIZE.fullmatch(value.strip().lower().removesuffix("ib").removesuffix("b"))
    if not match:
        raise BadRequest(f"{where}: {value!r} is not a size such as 512m or 10gb")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def parse_signal(value: str, where: str) -> int:
    """A signal by number or name, with or without SIG. Raises BadRequest naming `where`."""
    if value.isascii() and value.isdigit() and len(value) < 4 and 0 < int(value) <= 64:
        return int(value)
    name = value.upper().removeprefix("SIG")
    if match := re.fullmatch(r"RT(MIN|MAX)([+-]\d{1,2})?", name, re.ASCII):
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        number = int(base) + int(match[2] or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    known = getattr(signal, "SIG" + name, None)
    if not isinstance(known, signal.Signals):
        raise BadRequest(f"{where}: unknown signal {value!r}")
    return int(known)
