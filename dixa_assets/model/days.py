"""Local days and the instants that bound them."""

import datetime as dt
import itertools
from dataclasses import dataclass
from typing import Self
from zoneinfo import ZoneInfo

MILLISECOND = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Period:
    """The half-open instants [start, end), both in UTC."""

    start: dt.datetime
    end: dt.datetime

    @property
    def is_empty(self) -> bool:
        """True if no instant lies in the period."""
        return self.start >= self.end

    def halves(self) -> tuple[Self, Self]:
        """The first and the second half, cut at a whole millisecond."""
        middle = self.start + (self.end - self.start) // MILLISECOND // 2 * MILLISECOND
        return type(self)(self.start, middle), type(self)(middle, self.end)

    def split(self, span: tuple[dt.datetime, dt.datetime] | None = None) -> list[Self]:
        """Smaller periods that cover this one; none if it is one millisecond.

        A short `span` of instants inside the period becomes a part of its own. Otherwise the parts
        are the two halves.
        """
        length = self.end - self.start
        if length <= MILLISECOND:
            return []
        first, last = span or (self.start, self.end)
        if not self.start <= first < last <= self.end or last - first > length / 2:
            return [*self.halves()]
        cuts = itertools.pairwise((self.start, first, last, self.end))
        return [type(self)(start, end) for start, end in cuts if start < end]


@dataclass(frozen=True, slots=True)
class Day:
    """A local day: its date, its zone, and the period between its two midnights."""

    date: dt.date
    timezone: str
    period: Period

    @classmethod
    def of(cls, day: dt.date, timezone: str) -> Self:
        """Local midnight to local midnight: 23, 24 or 25 hours, or none for a skipped day.

        Where midnight does not exist, the day begins when the clocks jump. Where midnight comes
        twice, the day begins at the first.
        """
        zone = ZoneInfo(timezone)
        start, end = (
            dt.datetime(each.year, each.month, each.day, tzinfo=zone).astimezone(dt.UTC)
            for each in (day, day + dt.timedelta(days=1))
        )
        return cls(day, timezone, Period(start, end))

    def __str__(self) -> str:
        return self.date.isoformat()

    @property
    def is_empty(self) -> bool:
        """True for a local day that never was, such as 2011-12-30 in Apia."""
        return self.period.is_empty

    @property
    def hours(self) -> float:
        """Length in hours."""
        return (self.period.end - self.period.start).total_seconds() / 3600


def days_from(first: dt.date, number: int, timezone: str) -> list[Day]:
    """`number` consecutive days, beginning with `first`."""
    return [Day.of(first + dt.timedelta(days=each), timezone) for each in range(number)]


def local_date(instant: str, timezone: str) -> dt.date:
    """The local date of an ISO instant."""
    return dt.datetime.fromisoformat(instant).astimezone(ZoneInfo(timezone)).date()
