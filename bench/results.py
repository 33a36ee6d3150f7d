"""What a measurement gives."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """One line of the table: the median of `samples`, against a bound if there is one."""

    name: str
    unit: str
    samples: list[float] = field(repr=False)
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    key: str = ""
    """The name of the median at the top of the measurement's file, "" for none."""

    @property
    def value(self) -> float:
        """The median of the samples, NaN when there are none: `note` says why."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def bound(self) -> str:
        """The bound in words, "" if there is none."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""

    @property
    def held(self) -> bool:
        """Whether the value is within the bound."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


Measure = Callable[[], Iterable[Result]]
"""A module `bench/measure_NAME.py` has a function `measure` of this type."""
