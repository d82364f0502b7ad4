"""The truth: which rows and aggregates exist between two instants, as known at a third.

Tests ask `World` directly, without HTTP, what a load should have brought.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from operator import attrgetter

from dixa_assets.simulator.metrics import LATE_METRIC, METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.timeline import (
    CSIDS_PER_DAY,
    FIRST_DAY,
    LIFETIME_DAYS,
    MAX_CONVERSATIONS_PER_DAY,
    tell_day,
)
from dixa_assets.simulator.values import Json, Row

__all__ = ["Filter", "Row", "World"]

BEGINNING = datetime.combine(FIRST_DAY, time(), UTC)
# A cached conversation and all its rows take about 7 kB; this keeps the caches near 350 MB.
CACHED_CONVERSATIONS = 48_000
KNOWN_METRICS = {**METRICS, LATE_METRIC.id: LATE_METRIC}
# The rows behind the late metric are no record of the catalogue.
RECORD_FILTERS = {one.id: one.filters for one in RECORDS.values()} | {
    LATE_METRIC.record_id: LATE_METRIC.filters
}

_instant = attrgetter("at")


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep the rows whose attribute has one of the values."""

    attribute: str
    values: tuple[str, ...]

    def keeps(self, row: Row) -> bool:
        """Whether a row passes."""
        return any(value in self.values for value in row.attribute(self.attribute))


class World:
    """Everything that ever happens in the simulated support centre.

    The same seed and size give the same events for any date, in whatever order they are asked. A
    filter on an attribute that the record or metric does not offer is ignored.
    """

    def __init__(self, *, seed: int = 7, conversations_per_day: int = 120) -> None:
        if not 1 <= conversations_per_day <= MAX_CONVERSATIONS_PER_DAY:
            raise ValueError(f"conversations_per_day: 1 to {MAX_CONVERSATIONS_PER_DAY}")
        self._seed = seed
        self._size = conversations_per_day
        days = max(LIFETIME_DAYS + 8, min(400, CACHED_CONVERSATIONS // conversations_per_day))
        self._told = lru_cache(maxsize=days)(self._tell)
        self._day = lru_cache(maxsize=days)(self._gather)

    def rows(
        self,
        record_id: str,
        *,
        start: datetime,
        end: datetime,
        now: datetime,
        filters: Iterable[Filter] = (),
    ) -> list[Row]:
        """A record's rows in [start, end) known at `now`, by primary timestamp."""
        start = max(start.astimezone(UTC), BEGINNING)
        # Nothing is known beyond now, so nothing beyond it needs to be told.
        end = min(end.astimezone(UTC), now.astimezone(UTC) + datetime.resolution)
        found: list[Row] = []
        day = start.date()
        while day <= end.date() and start < end:
            rows = self._day(day).get(record_id, [])
            low = bisect_left(rows, start, key=_instant)
            high = bisect_left(rows, end, key=_instant)
            found.extend(row for row in rows[low:high] if row.visible_at <= now)
            day += timedelta(days=1)
        return _kept(found, offered(filters, RECORD_FILTERS[record_id]))

    def rows_of_conversations(
        self, record_id: str, csids: Iterable[int], *, now: datetime, filters: Iterable[Filter] = ()
    ) -> list[Row]:
        """A record's rows of some conversations known at `now`, by primary timestamp."""
        wanted: dict[date, set[int]] = defaultdict(set)
        for csid in csids:
            offset = csid // CSIDS_PER_DAY
            if 0 <= offset <= (now.astimezone(UTC).date() - FIRST_DAY).days:
                wanted[FIRST_DAY + timedelta(days=offset)].add(csid)
        found = [
            row
            for day, numbers in wanted.items()
            for rows in self._told(day)
            for row in rows.get(record_id, [])
            if row.conversation and row.conversation.csid in numbers and row.visible_at <= now
        ]
        return _kept(sorted(found, key=_instant), offered(filters, RECORD_FILTERS[record_id]))

    def aggregate(
        self,
        metric_id: str,
        *,
        start: datetime,
        end: datetime,
        now: datetime,
        filters: Iterable[Filter] = (),
    ) -> list[Json]:
        """A metric's aggregates over [start, end) known at `now`, as the API sends them."""
        metric = KNOWN_METRICS[metric_id]
        filters = offered(filters, metric.filters)
        rows = self.rows(metric.record_id, start=start, end=end, now=now, filters=filters)
        return metric.aggregates(rows)

    def aggregate_of_conversations(
        self, metric_id: str, csids: Iterable[int], *, now: datetime, filters: Iterable[Filter] = ()
    ) -> list[Json]:
        """A metric's aggregates over some conversations known at `now`."""
        metric = KNOWN_METRICS[metric_id]
        filters = offered(filters, metric.filters)
        rows = self.rows_of_conversations(metric.record_id, csids, now=now, filters=filters)
        return metric.aggregates(rows)

    def _tell(self, day: date) -> list[dict[str, list[Row]]]:
        """What begins on a day, by days since then and by record."""
        told: list[dict[str, list[Row]]] = [defaultdict(list) for _ in range(LIFETIME_DAYS + 1)]
        for row in tell_day(day, seed=self._seed, conversations_per_day=self._size):
            told[(row.at.date() - day).days][row.record_id].append(row)
        return told

    def _gather(self, day: date) -> dict[str, list[Row]]:
        """The rows whose primary timestamp falls on a UTC day, by record and in order."""
        rows: dict[str, list[Row]] = defaultdict(list)
        for offset in range(LIFETIME_DAYS + 1):
            begun = day - timedelta(days=offset)
            if begun < FIRST_DAY:
                break
            for record_id, told in self._told(begun)[offset].items():
                rows[record_id].extend(told)
        for found in rows.values():
            found.sort(key=_instant)
        return dict(rows)


def offered(filters: Iterable[Filter], attributes: Collection[str]) -> list[Filter]:
    """The filters on one of the attributes."""
    return [one for one in filters if one.attribute in attributes]


def _kept(rows: list[Row], filters: Sequence[Filter]) -> list[Row]:
    return [row for row in rows if all(one.keeps(row) for one in filters)] if filters else rows
