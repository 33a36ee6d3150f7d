"""JSON by the scanner and the encoder that CPython's `json` is made of, whose module imports `re`.

What these refuse goes to `json` itself, which has the words for it.
"""

from _json import encode_basestring_ascii, make_encoder, make_scanner

from .types import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_BLANK = " \t\n\r"


class _Decoder:
    """What the scanner asks its decoder for (CPython's json.decoder.JSONDecoder)."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = parse_constant = float
    parse_int = int


def _refuse(value: object) -> None:
    raise TypeError(value)


_decoder: Any = _Decoder()
_scan = make_scanner(_decoder)
_make_encoder: Any = make_encoder


def loads(text: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError and RecursionError, as `json.loads`."""
    try:
        decoded = (text.decode() if isinstance(text, bytes) else text).strip(_BLANK)
        value, end = _scan(decoded, 0)
        if end == len(decoded):
            return value
    except (ValueError, StopIteration):
        pass
    import json

    return json.loads(text)


def load(file: "BinaryIO") -> Any:
    """The value of a file's JSON text. Raises as `loads`."""
    return loads(file.read())


def dumps(value: Any) -> str:
    """`json.dumps` without its options. Raises TypeError and ValueError."""
    try:
        if isinstance(value, (dict, list)):
            encode = _make_encoder(
                {}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True
            )
            return "".join(encode(value, 0))
    except TypeError:
        pass
    import json

    return json.dumps(value)
