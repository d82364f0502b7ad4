"""Pages asked for, compared with the pages that the rows fill."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dixa_assets_tests.bench.vendor import PAGE_LIMIT, RECORD, running_vendor
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Simulator

DAYS = 60
SPARSE, DENSE = 7, 20_000


@dataclass(frozen=True)
class Spent:
    """The backfill of a record with so many rows a day."""

    rows_per_day: int
    days: int
    pages: int
    rows: int

    @property
    def full_pages(self) -> int:
        """What the rows would fill."""
        return math.ceil(self.rows / PAGE_LIMIT)

    @property
    def ratio(self) -> float:
        """Pages asked for over pages filled."""
        return self.pages / self.full_pages


def measure_spent(folder: Path, rows_per_day: int, days: int = DAYS) -> Spent:
    """Backfill a record of which three earlier days were loaded."""
    folder.mkdir(parents=True)
    last = datetime.now(UTC).date() - timedelta(days=2)
    first = last - timedelta(days=days - 1)
    with running_vendor(rows_per_day) as vendor:
        analytics = component(Simulator(vendor.url), folder)
        catalogue = fetched(analytics)
        keys = [f"dixa_records/{RECORD}"]
        before = (first - timedelta(days=4), first - timedelta(days=2))
        for start, end in (before, (first, last)):
            vendor.forget()
            assert load(
                analytics, keys, start.isoformat(), end.isoformat(), catalogue=catalogue
            ).success
        asked = vendor.asked()
    return Spent(rows_per_day, days, asked["requests"], asked["rows"])
