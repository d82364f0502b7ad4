"""What a load brought, and how far it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dixa_assets.model.counts import Counts, Usage
from dixa_assets.model.days import Window
from dixa_assets.model.tables import Column

if TYPE_CHECKING:
    import pandas as pd

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """A day that is in the warehouse: what was asked, what came, what was written.

    Days fetched together share their requests; the first of them has them all. `totals` are a
    metric's values by measure, `preview` a few rows of what was written with the day.
    """

    window: Window
    counts: Counts
    usage: Usage
    totals: Mapping[str, float]
    schema_changes: Sequence[str]
    columns: Sequence[Column]
    seconds: float
    together: int
    preview: "pd.DataFrame"


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A whole table that is in the warehouse: its rows, what they cost, how long it took."""

    rows: int
    usage: Usage
    seconds: float


class Progress:
    """How far a load is, in lines at a rate a person can read.

    Args:
        days: How many there are to load.
    """

    def __init__(self, days: int) -> None:
        self._days = days
        self._done = 0
        self._rows = 0
        self._usage = Usage()
        self._began = self._said = time.monotonic()

    def line(self, day: LoadedDay) -> str | None:
        """What to say after a day; None when the last line is not yet a few seconds old."""
        self._done += 1
        self._rows += day.counts.rows
        self._usage += day.usage
        now = time.monotonic()
        if 1 < self._done < self._days and now < self._said + SECONDS_BETWEEN_LINES:
            return None
        self._said = now
        left = (now - self._began) / self._done * (self._days - self._done)
        return (
            f"{day.window.day} ({day.window.hours:g} h): {day.counts.rows:,} rows. "
            f"{self._done} of {self._days} days, {self._rows:,} rows, "
            f"{self._usage.requests} requests, {self._usage.retries} of them repeats, "
            f"{self._usage.seconds_waiting:.0f} s waited for the rate limit"
            # After one day there is no estimate: days fetched with it have come too.
            + (f"; about {left:.0f} s left" if left and self._done > 1 else "")
        )
