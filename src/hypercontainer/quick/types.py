"""`typing` and `collections.abc`, as far as annotations are concerned, and `NamedTuple`."""

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Callable",
    "Iterable",
    "Iterator",
    "Mapping",
    "NamedTuple",
    "NoReturn",
    "T",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, NamedTuple, NoReturn, TypeVar

    T = TypeVar("T")
else:
    from _collections_abc import Callable, Iterable, Iterator, Mapping
    from _operator import itemgetter

    class Any:
        """`typing.Any`, in annotations."""

    class NoReturn:
        """`typing.NoReturn`, in annotations."""

    class T:
        """A type variable, in annotations."""

    class NamedTuple(tuple):
        """`typing.NamedTuple`, for classes that derive from it directly.

        Made without compiling anything, which takes most of the time that the real one takes.
        """

        __slots__ = ()
        _fields = ()

        def __init_subclass__(cls) -> None:
            cls._fields = tuple(cls.__annotations__)
            cls._field_defaults = {
                name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__
            }
            for index, name in enumerate(cls._fields):
                setattr(cls, name, property(itemgetter(index)))

        def __new__(cls, *values, **named):
            """As a call of the class's name with its fields. Raises TypeError."""
            fields = cls._fields
            if len(values) < len(fields):
                known = {**cls._field_defaults, **named}
                given = len(values)
                missing = [name for name in fields[given:] if name not in known]
                if missing:
                    raise TypeError(f"{cls.__name__}: missing {', '.join(missing)}")
                values += tuple(known[name] for name in fields[given:])
                named = {name: None for name in named if name not in fields[given:]}
            if named or len(values) > len(fields):
                raise TypeError(f"{cls.__name__}: unexpected or repeated arguments")
            return tuple.__new__(cls, values)

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self) -> str:
            pairs = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({', '.join(pairs)})"

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        @classmethod
        def _make(cls, values):
            return cls(*values)
