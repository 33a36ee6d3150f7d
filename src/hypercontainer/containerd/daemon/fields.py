"""Protobuf messages as filters and update masks see them."""

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ...errors import BadRequest
from .filters import Fields

_OTHER_NAMES = {"mediatype": "media_type", "snapshotkey": "snapshot_key"}


def fields_of(message: Message) -> Fields:
    """What a filter finds in a message: `labels.KEY` of a map, `target.digest` of one within."""
    return lambda path: _find(message, path)


def _find(message: Message, path: Sequence[str]) -> str | None:
    field = message.DESCRIPTOR.fields_by_name.get(_OTHER_NAMES.get(path[0], path[0]))
    if field is None:
        return None
    value = getattr(message, field.name)
    rest = path[1:]
    if isinstance(value, Mapping):
        return value.get(".".join(rest)) if rest else None
    if isinstance(value, Message):
        return _find(value, rest) if rest and message.HasField(field.name) else None
    if rest or not value or field.is_repeated:
        return None
    if field.type == FieldDescriptor.TYPE_ENUM and field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.lower()
    return str(value)


def masked_labels(
    old: Mapping[str, str], new: Mapping[str, str], paths: Sequence[str], *others: str
) -> dict[str, str]:
    """Labels after an update: all of the new ones, or those that the mask's paths name.

    `others` are paths that the caller sees to. Raises BadRequest for any other.
    """
    if not paths:
        return dict(new)
    labels = dict(old)
    for path in paths:
        name, dot, key = path.partition(".")
        if name in others:
            continue
        if name != "labels":
            raise BadRequest(f"the field {path!r} can't be changed")
        if not dot:
            labels = dict(new)
        elif key in new:
            labels[key] = new[key]
        else:
            labels.pop(key, None)
    return {key: value for key, value in labels.items() if value or not paths}
