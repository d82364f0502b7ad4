"""The data of the simulated account: the rows and aggregates of a period, as known at `now`.

Tests call `World` directly to get the rows that a load must store. HTTP does not belong here.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from operator import attrgetter

from dixa_assets.simulator.metrics import LATE_METRIC, METRICS
from dixa_assets.simulator.records import RECORD_FILTERS
from dixa_assets.simulator.timeline import (
    CSIDS_PER_DAY,
    FIRST_DAY,
    LIFETIME_DAYS,
    MAX_CONVERSATIONS_PER_DAY,
    rows_of_day,
)
from dixa_assets.simulator.values import Json, Row

__all__ = ["Filter", "Row", "World"]

BEGINNING = datetime.combine(FIRST_DAY, time(), UTC)
# A cached conversation with its rows takes about 7 kB. This limits the caches to about 350 MB.
CACHED_CONVERSATIONS = 48_000
KNOWN_METRICS = {**METRICS, LATE_METRIC.id: LATE_METRIC}

_instant = attrgetter("at")


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps the rows whose attribute has one of the values."""

    attribute: str
    values: tuple[str, ...]

    def keeps(self, row: Row) -> bool:
        """Whether a row passes the filter."""
        return any(value in self.values for value in row.attribute(self.attribute))


class World:
    """Every event of the simulated support centre.

    The same seed and size give the same events for every date, whatever is requested first. A
    filter on an attribute that the record or metric does not offer has no effect.

    Args:
        seed: Each seed gives other events.
        conversations_per_day: Typical size of a working day.
        edge_share: Conversations whose events are exactly at local midnights and other edges, as a
            share of the others. None: one on every edge.

    Raises:
        ValueError: `conversations_per_day` is out of range.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        conversations_per_day: int = 120,
        edge_share: float | None = None,
    ) -> None:
        if not 1 <= conversations_per_day <= MAX_CONVERSATIONS_PER_DAY:
            raise ValueError(f"conversations_per_day: 1 to {MAX_CONVERSATIONS_PER_DAY}")
        self._rows_of_day = partial(
            rows_of_day,
            seed=seed,
            conversations_per_day=conversations_per_day,
            edge_share=edge_share,
        )
        days = max(LIFETIME_DAYS + 8, min(400, CACHED_CONVERSATIONS // conversations_per_day))
        self._begun_on = lru_cache(maxsize=days)(self._create_day)
        self._timestamped_on = lru_cache(maxsize=days)(self._collect_day)

    def rows(
        self,
        record_id: str,
        *,
        start: datetime,
        end: datetime,
        now: datetime,
        filters: Iterable[Filter] = (),
    ) -> list[Row]:
        """The rows of a record in [start, end) known at `now`, ordered by primary timestamp."""
        start = max(start.astimezone(UTC), BEGINNING)
        # No row after `now` is visible, so none needs to be created.
        end = min(end.astimezone(UTC), now.astimezone(UTC) + datetime.resolution)
        found: list[Row] = []
        day = start.date()
        while day <= end.date() and start < end:
            rows = self._timestamped_on(day).get(record_id, [])
            low = bisect_left(rows, start, key=_instant)
            high = bisect_left(rows, end, key=_instant)
            found.extend(row for row in rows[low:high] if row.visible_at <= now)
            day += timedelta(days=1)
        return _filtered(found, offered(filters, RECORD_FILTERS[record_id]))

    def rows_of_conversations(
        self, record_id: str, csids: Iterable[int], *, now: datetime, filters: Iterable[Filter] = ()
    ) -> list[Row]:
        """The rows of conversations known at `now`, ordered by primary timestamp."""
        wanted: dict[date, set[int]] = defaultdict(set)
        for csid in csids:
            offset = csid // CSIDS_PER_DAY
            if 0 <= offset <= (now.astimezone(UTC).date() - FIRST_DAY).days:
                wanted[FIRST_DAY + timedelta(days=offset)].add(csid)
        found = [
            row
            for day, numbers in wanted.items()
            for rows in self._begun_on(day)
            for row in rows.get(record_id, [])
            if row.conversation and row.conversation.csid in numbers and row.visible_at <= now
        ]
        return _filtered(sorted(found, key=_instant), offered(filters, RECORD_FILTERS[record_id]))

    def aggregate(
        self,
        metric_id: str,
        *,
        start: datetime,
        end: datetime,
        now: datetime,
        filters: Iterable[Filter] = (),
    ) -> list[Json]:
        """The aggregates of a metric over [start, end) known at `now`, as the API sends them."""
        metric = KNOWN_METRICS[metric_id]
        filters = offered(filters, metric.filters)
        rows = self.rows(metric.record_id, start=start, end=end, now=now, filters=filters)
        return metric.aggregates(rows)

    def aggregate_of_conversations(
        self, metric_id: str, csids: Iterable[int], *, now: datetime, filters: Iterable[Filter] = ()
    ) -> list[Json]:
        """The aggregates of a metric over conversations, known at `now`."""
        metric = KNOWN_METRICS[metric_id]
        filters = offered(filters, metric.filters)
        rows = self.rows_of_conversations(metric.record_id, csids, now=now, filters=filters)
        return metric.aggregates(rows)

    def _create_day(self, day: date) -> list[dict[str, list[Row]]]:
        """The rows of everything that begins on a day: by days since then, then by record."""
        begun: list[dict[str, list[Row]]] = [defaultdict(list) for _ in range(LIFETIME_DAYS + 1)]
        for row in self._rows_of_day(day):
            begun[(row.at.date() - day).days][row.record_id].append(row)
        return begun

    def _collect_day(self, day: date) -> dict[str, list[Row]]:
        """The rows whose primary timestamp is on a UTC day, by record and in order."""
        rows: dict[str, list[Row]] = defaultdict(list)
        for offset in range(LIFETIME_DAYS + 1):
            first_day = day - timedelta(days=offset)
            if first_day < FIRST_DAY:
                break
            for record_id, found in self._begun_on(first_day)[offset].items():
                rows[record_id].extend(found)
        for found in rows.values():
            found.sort(key=_instant)
        return dict(rows)


def offered(filters: Iterable[Filter], attributes: Collection[str]) -> list[Filter]:
    """The filters on one of the attributes; the API ignores the others."""
    return [filter_ for filter_ in filters if filter_.attribute in attributes]


def _filtered(rows: list[Row], filters: Sequence[Filter]) -> list[Row]:
    if not filters:
        return rows
    return [row for row in rows if all(filter_.keeps(row) for filter_ in filters)]
