"""`runv state`, quickly: engines call it before and after everything that they do.

So this reads and writes no more than it must. Whatever is out of the ordinary is left to the long
way, which also has the words for it.
"""

import os

from ..quick.json import loads
from ..quick.types import Any
from .ids import is_id


def quick_state(argv: list[str], root: str) -> str | None:
    """What `runv [--root DIR] [--log FILE] [--log-format FORMAT] state ID` prints.

    None for any other command line, and for whatever can't be told.
    """
    rest = list(argv)
    while len(rest) >= 2 and rest[0] in ("--root", "--log", "--log-format"):
        root = rest[1] if rest[0] == "--root" else root
        del rest[:2]
    if len(rest) != 2 or rest[0] != "state" or not root:
        return None
    cid = rest[1]
    if not is_id(cid) or cid[0] == "-":
        return None
    try:
        return _state(os.path.abspath(root), cid)
    except (OSError, ValueError, KeyError, TypeError, ImportError, StopIteration):
        return None


def _state(root: str, cid: str) -> str:
    record = _read(f"{root}/{cid}/container.json")
    sandbox = _read(f"{root}/{record['owner']}/sandbox/state.json")
    status = "stopped"
    if _alive(sandbox["pid"], sandbox["started"]) and sandbox["status"] != "stopped":
        container = sandbox["containers"].get(record["guest_id"])
        status = container["status"] if container else "stopped"
    pid = record["pid"]
    if status == "stopped" or not _alive(pid, record["pid_started"]):
        pid = 0
    return dumps(
        {
            "ociVersion": record["oci_version"],
            "id": record["id"],
            "pid": pid,
            "status": status,
            "bundle": record["bundle"],
            "rootfs": record["rootfs"],
            "created": record["created"],
            "annotations": record["annotations"],
            "owner": "",
        }
    )


def _read(path: str) -> Any:
    with open(path, "rb", buffering=0) as file:
        return loads(file.read())


def _alive(pid: int, started: int) -> bool:
    """As `processes.alive`."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            fields = stat.read(1024).rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == started


def dumps(state: dict[str, Any]) -> str:
    """An object of numbers, strings and objects of strings, indented as runc does."""
    from _json import encode_basestring

    def value(item: Any, indent: str) -> str:
        if isinstance(item, str):
            return str(encode_basestring(item))
        if isinstance(item, int) and not isinstance(item, bool):
            return str(item)
        if not isinstance(item, dict):
            raise TypeError(item)
        if not item:
            return "{}"
        deeper = indent + "  "
        lines = (f"{deeper}{encode_basestring(k)}: {value(v, deeper)}" for k, v in item.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"

    return value(state, "") + "\n"
