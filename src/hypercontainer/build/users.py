"""--chown: users and groups by number, or by the image's /etc/passwd and /etc/group."""

from ..errors import BadRequest
from .copying import Owner

_TOP = (1 << 32) - 2


def owner_of(text: str, passwd: bytes, group: bytes) -> Owner:
    """Who `USER[:GROUP]` is. Raises BadRequest for a name that the image does not know."""
    user, colon, group_name = text.partition(":")
    uid, own_gid = _find(user, passwd, "user")
    if colon and group_name:
        gid, _ = _find(group_name, group, "group")
    else:
        gid = uid if own_gid is None else own_gid
    return Owner(uid, gid)


def _find(name: str, table: bytes, what: str) -> tuple[int, int | None]:
    """The number of a user or group, and a user's own group."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 11 else None
    for line in table.decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) < 4 or not fields[2].isdigit():
            continue
        if fields[0] == name or (number is not None and int(fields[2]) == number):
            own = int(fields[3]) if what == "user" and fields[3].isdigit() else None
            return int(fields[2]), own if fields[0] == name else None
    if number is None or number > _TOP:
        raise BadRequest(f"--chown: the image has no {what} {name!r}")
    return number, None
