"""Windows: from local days to the instants that bound them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open instants [start, end) of one local day, both in UTC."""

    day: date
    start: datetime
    end: datetime
    timezone: str

    @classmethod
    def of_day(cls, day: date, timezone: str) -> Self:
        """Local midnight to local midnight: 23, 24 or 25 hours, or none for a day left out.

        Where midnight does not exist the day begins when the clocks jump; where it comes twice,
        at the first.
        """
        zone = ZoneInfo(timezone)
        start, end = (
            datetime(each.year, each.month, each.day, tzinfo=zone).astimezone(UTC)
            for each in (day, day + timedelta(days=1))
        )
        return cls(day, start, end, timezone)

    @property
    def is_empty(self) -> bool:
        """True for a local day that never was, as 2011-12-30 in Apia."""
        return self.start >= self.end

    @property
    def hours(self) -> float:
        """Length in hours."""
        return (self.end - self.start).total_seconds() / 3600

    def parts(self, number: int) -> "Iterator[Window]":
        """The window cut into equal ones, at whole milliseconds."""
        length = (self.end - self.start) // MILLISECOND
        cuts = [self.start + length * part // number * MILLISECOND for part in range(number + 1)]
        for start, end in zip(cuts, cuts[1:], strict=False):
            yield replace(self, start=start, end=end)


def windows_from(day: date, number: int, timezone: str) -> list[Window]:
    """The windows of so many days in a row."""
    return [Window.of_day(day + timedelta(days=each), timezone) for each in range(number)]


def local_day(instant: str, timezone: str) -> date:
    """The local day in which an ISO instant lies."""
    return datetime.fromisoformat(instant).astimezone(ZoneInfo(timezone)).date()
