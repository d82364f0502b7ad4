"""What is counted while days are loaded: cost, rows, lacking values, types of values."""

from collections import Counter
from dataclasses import dataclass, field

from dixa_assets.model.values import widest


@dataclass(slots=True)
class Usage:
    """What a piece of work has cost: requests sent, retries among them, pages, bytes, waits."""

    requests: int = 0
    retries: int = 0
    pages: int = 0
    bytes: int = 0
    seconds_waiting: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, each) + getattr(other, each) for each in self.__slots__))


@dataclass(slots=True)
class Volume:
    """What an asset's loads have brought so far.

    `alone` means that every day is asked for alone, in one window: a metric's answer is one sum
    over its window; a record's rows once lay outside what was asked for, or lacked in a joint
    answer, which `was_cut` remembers. `reach` is the largest number of days of 24 hours that one
    answer is proven to cover: rows came from before and after them, or the days at their ends have
    no more rows alone.
    """

    days: int = 0
    rows: int = 0
    alone: bool = False
    reach: int = 1
    was_cut: bool = False

    @property
    def rows_a_day(self) -> float:
        """Rows of an average day."""
        return self.rows / self.days if self.days else 0.0


@dataclass(slots=True)
class Counts:
    """What is known of one day's rows.

    How many there are, how many lie outside the day, and how many lack a value, by field that the
    catalogue says always has one.
    """

    rows: int = 0
    outside_window: int = 0
    nulls: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.rows + other.rows,
            self.outside_window + other.outside_window,
            self.nulls + other.nulls,
        )


@dataclass(slots=True)
class Types:
    """The types that values have shown, by the field and part of it that they come from.

    `inexact` are those with an integer that a DOUBLE would change.
    """

    of: dict[tuple[str, str], str | None] = field(default_factory=dict)
    inexact: set[tuple[str, str]] = field(default_factory=set)

    def see(self, source: tuple[str, str], type_: str | None) -> None:
        """Widen the type of a source to one that holds this value too."""
        self.of[source] = widest(self.of.get(source), type_, exact=source not in self.inexact)

    def __add__(self, other: "Types") -> "Types":
        both = Types(dict(self.of), self.inexact | other.inexact)
        for source, type_ in other.of.items():
            both.see(source, type_)
        return both
