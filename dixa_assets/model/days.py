"""Local days, weeks and months, and the instants that bound them."""

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args
from zoneinfo import ZoneInfo

MILLISECOND = dt.timedelta(milliseconds=1)
# Instants within this share of a period get a part of their own.
CLOSE = 1 / 16
# How many ranges of days a sentence names.
MOST_RUNS = 5
# The endings of names of tables by day, week and month.
ENDINGS = {"day": "daily", "week": "weekly", "month": "monthly"}
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS = get_args(Weekday)


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

    @property
    def is_shortest(self) -> bool:
        """True if the period is not split: it has at most two milliseconds."""
        return self.end - self.start <= 2 * MILLISECOND

    def split(self, first: dt.datetime | None, last: dt.datetime | None) -> list[Self]:
        """Smaller periods that cover this one.

        If the instants `first` and `last` are close together, they get a part of their own. It
        begins a millisecond early: an API that includes the end of a period then returns rows at
        `first` in one part. Otherwise the parts are the two halves.
        """
        if first is None or last is None:
            return [*self.halves()]
        cuts = [self.start + (at - self.start) // MILLISECOND * MILLISECOND for at in (first, last)]
        start = max(self.start, cuts[0] - MILLISECOND)
        end = min(self.end, cuts[1] + MILLISECOND)
        if not start < end or end - start > (self.end - self.start) * CLOSE:
            return [*self.halves()]
        edges = sorted({self.start, start, end, self.end})
        return [type(self)(*edge) for edge in itertools.pairwise(edges)]


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


@dataclass(frozen=True, slots=True)
class Span:
    """A local week or month: `week` or `month`, its first day, and its period."""

    name: str
    first_day: dt.date
    period: Period

    @classmethod
    def around(cls, day: Day, name: str, week_starts_on: Weekday = "monday") -> Self:
        """The week or month of a day, from its first local midnight to the one after it."""
        if name == "week":
            since = (day.date.weekday() - WEEKDAYS.index(week_starts_on)) % 7
            first = day.date - dt.timedelta(days=since)
            following = first + dt.timedelta(days=7)
        else:
            first = day.date.replace(day=1)
            following = (first + dt.timedelta(days=31)).replace(day=1)
        start, end = (Day.of(each, day.timezone).period.start for each in (first, following))
        return cls(name, first, Period(start, end))


def spans_ending(day: Day, names: Iterable[str], week_starts_on: Weekday) -> list[Span]:
    """The weeks and months whose last instant is the last instant of a day."""
    spans = [] if day.is_empty else [Span.around(day, name, week_starts_on) for name in names]
    return [span for span in spans if span.period.end == day.period.end]


def days_from(first: dt.date, number: int, timezone: str) -> list[Day]:
    """`number` consecutive days, beginning with `first`."""
    return [Day.of(first + dt.timedelta(days=each), timezone) for each in range(number)]


def date_range(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every date from `first` to `last`; empty if `last` is before `first`."""
    return [first + dt.timedelta(days=each) for each in range((last - first).days + 1)]


def to_runs(dates: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Sorted dates as runs of consecutive ones: first and last date of each."""
    runs: list[tuple[dt.date, dt.date]] = []
    for date in dates:
        if runs and (date - runs[-1][1]).days == 1:
            runs[-1] = runs[-1][0], date
        else:
            runs.append((date, date))
    return runs


def in_words(runs: Sequence[tuple[dt.date, dt.date]]) -> str:
    """The first ranges of days, each with its first and its last day."""
    named = [f"{first} to {last}" if first < last else f"{first}" for first, last in runs]
    more = f" and {len(named) - MOST_RUNS} more ranges" if len(named) > MOST_RUNS else ""
    return ", ".join(named[:MOST_RUNS]) + more


def local_date(instant: str, timezone: str) -> dt.date:
    """The local date of an ISO instant."""
    return dt.datetime.fromisoformat(instant).astimezone(ZoneInfo(timezone)).date()
