"""Keys that detach from a process with a terminal."""

from __future__ import annotations

from ..errors import BadRequest

DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """The bytes of keys as Docker writes them: single characters and `ctrl-X`, with commas.

    An empty text means the default, ctrl-p ctrl-q. Raises BadRequest.
    """
    keys = bytearray()
    for word in (text or DETACH_KEYS).split(","):
        control = word.lower().removeprefix("ctrl-")
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif control != word.lower() and len(control) == 1 and control in _CONTROL:
            keys.append(_CONTROL.index(control))
        else:
            raise BadRequest(
                f"detach keys: {word!r} is neither a character nor ctrl- with one of"
                " a-z @ [ \\ ] ^ _"
            )
    return bytes(keys)


class DetachKeys:
    """Watches input for the keys that detach, which may come in pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were pressed.

        What may be the beginning of the keys is held back.
        """
        data = self._held + data
        place = data.find(self._keys)
        if place >= 0:
            self._held = b""
            return data[:place], True
        kept = min(len(self._keys) - 1, len(data))
        while not self._keys.startswith(data[len(data) - kept :]):
            kept -= 1
        self._held = data[len(data) - kept :] if kept else b""
        return data[: len(data) - kept], False

    def end(self) -> bytes:
        """The input has ended: what was held back."""
        held, self._held = self._held, b""
        return held
