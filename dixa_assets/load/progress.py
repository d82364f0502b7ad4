"""The result of a load, and lines about its progress."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dixa_assets.model.counts import Counts, Usage
from dixa_assets.model.days import Day
from dixa_assets.model.tables import Column

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """A day in the warehouse: its rows, its cost, and what the write changed.

    `totals` are a metric's values by measure. `preview` has a few rows of the write.
    """

    day: Day
    counts: Counts
    usage: Usage
    totals: Mapping[str, float]
    schema_changes: Sequence[str]
    columns: Sequence[Column]
    seconds: float
    preview: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A whole table in the warehouse: its rows, its cost, its duration."""

    rows: int
    usage: Usage
    seconds: float


class Progress:
    """The progress of a load, in lines at a readable rate.

    Args:
        days: Number of days to load.
    """

    def __init__(self, days: int) -> None:
        self._days = days
        self._done = 0
        self._rows = 0
        self._usage = Usage()
        self._began = self._reported = time.monotonic()

    def line(self, loaded: LoadedDay) -> str | None:
        """A line after a day; None if the last line is less than a few seconds old."""
        self._done += 1
        self._rows += loaded.counts.rows
        self._usage += loaded.usage
        now = time.monotonic()
        if self._done < self._days and now < self._reported + SECONDS_BETWEEN_LINES:
            return None
        self._reported = now
        left = (now - self._began) / self._done * (self._days - self._done)
        return (
            f"{loaded.day} ({loaded.day.hours:g} h): {loaded.counts.rows:,} rows. "
            f"{self._done} of {self._days} days, {self._rows:,} rows, "
            f"{self._usage.requests} requests, {self._usage.retries} of them repeats, "
            f"{self._usage.seconds_waiting:.0f} s waited for the rate limit"
            # One day gives no estimate: other days were fetched at the same time.
            + (f"; about {left:.0f} s left" if left and self._done > 1 else "")
        )
