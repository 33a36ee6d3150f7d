"""Ids of containers, as runc takes them. Imports nothing."""

_MAX = 1024
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def is_id(cid: str) -> bool:
    """Whether runc would take it."""
    return 0 < len(cid) <= _MAX and _CHARACTERS.issuperset(cid) and cid not in (".", "..")
