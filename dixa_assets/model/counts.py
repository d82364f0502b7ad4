"""Counters of a load: its cost, its rows, and the types of its values."""

from collections import Counter
from dataclasses import dataclass, field

from dixa_assets.model.values import widest


@dataclass(slots=True)
class Usage:
    """The cost of a load. `requests` include the retries."""

    requests: int = 0
    retries: int = 0
    pages: int = 0
    bytes: int = 0
    seconds_waiting: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, each) + getattr(other, each) for each in self.__slots__))


@dataclass(slots=True)
class Counts:
    """The numbers of rows of a day: all, outside the day, and without a value.

    `nulls` counts rows without a value by field, for the fields that the catalogue calls
    non-nullable.
    """

    rows: int = 0
    outside_day: int = 0
    nulls: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.rows + other.rows,
            self.outside_day + other.outside_day,
            self.nulls + other.nulls,
        )


@dataclass(slots=True)
class Types:
    """The types of values, by their source: a field of the API and its `value` or `label`.

    `inexact` holds the sources with an integer that a DOUBLE would change.
    """

    of: dict[tuple[str, str], str | None] = field(default_factory=dict)
    inexact: set[tuple[str, str]] = field(default_factory=set)

    def see(self, source: tuple[str, str], type_: str | None) -> None:
        """Widen the type of a source so that it can hold a value of this type too."""
        self.of[source] = widest(self.of.get(source), type_, exact=source not in self.inexact)

    def __add__(self, other: "Types") -> "Types":
        both = Types(dict(self.of), self.inexact | other.inexact)
        for source, type_ in other.of.items():
            both.see(source, type_)
        return both
