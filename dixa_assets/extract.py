"""One entry and one window of time -> rows, staged on disk for the warehouse.

Request bodies, page walking, flattening typed fields. No Dagster, no SQL.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

from dixa_assets.catalogue import Entry, speakable
from dixa_assets.client import DixaClient, Usage
from dixa_assets.errors import (
    ApiContractBroken,
    ConfigError,
    PageKeyRefused,
    RowsAstray,
    RowsMoved,
)
from dixa_assets.schema import RECORD_VALUE
from dixa_assets.staging import Staged
from dixa_assets.values import (
    EXACT_IN_DOUBLE,
    NOTHING,
    Value,
    parse_instant,
    read_value,
)

MILLISECOND = timedelta(milliseconds=1)
# How often a window's pages are read before the rows are said to be moving.
READINGS = 3
# The measure of an aggregate that names none: presence durations come as a list of statuses.
PRESENCE = "AgentPresenceDuration"


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

    def to_api(self) -> dict[str, str]:
        """The vendor's Interval. Its end is taken as inclusive, so it is the last millisecond."""
        return {
            "_type": "Interval",
            "start": _z(self.start),
            "end": _z(self.end - MILLISECOND),
        }


@dataclass(frozen=True, slots=True)
class FilterValue:
    """A value of a filter attribute, as the vendor's filter endpoint gave it."""

    value: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What to ask for one entry, whatever the day.

    `filters` go with every request. `breakdowns` add, to a metric's total, one request per value.
    `excluded_fields` of a record are dropped before anything is written anywhere.
    """

    entry: Entry
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Mapping[str, Sequence[FilterValue]] = field(default_factory=dict)
    excluded_fields: frozenset[str] = frozenset()

    def body(self, window: Window, /, **narrowed: str) -> dict[str, Any]:
        """The request body for a window, with attributes of `narrowed` set to one value."""
        filters = {name: list(values) for name, values in self.filters.items()}
        filters |= {name: [value] for name, value in narrowed.items()}
        body: dict[str, Any] = {
            "id": self.entry.id,
            "periodFilter": window.to_api(),
            "timezone": window.timezone,
        }
        if filters:
            body["filters"] = [
                {"attribute": name, "values": values} for name, values in filters.items()
            ]
        if self.entry.aggregations:
            body["aggregations"] = [item.measure for item in self.entry.aggregations]
        return body


def extract_metric(client: DixaClient, query: Query, window: Window, staged: Staged) -> None:
    """Stage a metric's aggregates for one window: the total, then each breakdown value."""
    if window.is_empty:
        return
    for attribute, value in ((None, None), *_breakdowns(query)):
        narrowed = {attribute: value.value} if attribute and value else {}
        data = client.fetch_metric_data(query.body(window, **narrowed), staged.usage)
        for measure, status, number, unknown in _aggregates(query.entry.id, data):
            if number is not None and attribute is None:
                staged.totals[f"{measure} ({status})" if status else measure] = number
            staged.add(
                {
                    "metric": query.entry.id,
                    "partition_date": window.day.isoformat(),
                    "interval_start": window.start.isoformat(),
                    "interval_end": window.end.isoformat(),
                    "timezone": window.timezone,
                    "breakdown_attribute": attribute,
                    "breakdown_value": value and value.value,
                    "breakdown_label": value and value.label,
                    "measure": measure,
                    "status": status,
                    "value": number,
                    "aggregate": unknown,
                }
            )


def extract_record(
    client: DixaClient, query: Query, window: Window, staged: Staged, days: Sequence[Window] = ()
) -> None:
    """Stage a record's rows for one window, every page.

    Pages are cut by number, so a row inserted while they are read makes another come twice. A
    window whose pages overlap is read again: rows that repeat in the same place each time are
    really equal and kept, others were moved.

    Args:
        client: Who asks.
        query: What is asked.
        window: From when to when.
        staged: Where the rows go.
        days: The days the window covers, when it covers several: each row goes to the day in which
            its primary timestamp lies. Or the day it is a part of.

    Raises:
        RowsAstray: A row lies outside a window of several days, so it is of no day for sure.
        RowsMoved: The pages overlapped in another place at each reading.
    """
    if window.is_empty:
        return
    repeats: list[Any] = []
    for reading in range(1, READINGS + 1):
        before = repeats
        try:
            repeats = _stage_pages(client, query, window, staged, days or (window,))
        except PageKeyRefused:
            if reading == READINGS:
                raise
        else:
            if repeats == before:
                return
        staged.clear()
    raise RowsMoved(
        f"record '{query.entry.id}'", f"rows moved between pages in each of {READINGS} readings."
    )


def _stage_pages(
    client: DixaClient, query: Query, window: Window, staged: Staged, days: Sequence[Window]
) -> list[dict[str, Any]]:
    """Stage all pages once; the rows that begin a page though the page before had them.

    Rows outside their day are kept and counted: which timestamp Dixa's period looks at is not
    documented, and trimming could lose rows. Only a row exactly on the end belongs to the next
    window for sure, and is left to it.
    """
    required = {item.field for item in query.entry.fields if not item.nullable}
    required -= query.excluded_fields
    starts = [day.start for day in days]
    dates = [day.day.isoformat() for day in days]
    repeats = []
    previous: list[dict[str, Any]] = []
    for page in client.fetch_record_pages(query.body(window), staged.usage):
        if page[0] in previous:
            repeats.append(page[0])
        previous = page
        for row in page:
            instant, timestamp_field, fields = _read_row(query, row)
            if instant == window.end:
                continue
            if len(days) > 1 and not window.start <= instant < window.end:
                raise RowsAstray(
                    f"record '{query.entry.id}'",
                    f"a row of {instant.isoformat()} came for the time from "
                    f"{window.start.isoformat()} to {window.end.isoformat()}.",
                )
            date = dates[bisect_right(starts, instant) - 1] if len(days) > 1 else dates[0]
            counts = staged.days[date]
            counts.outside_window += not days[0].start <= instant < days[-1].end
            for name in required:
                if fields.get(name, NOTHING).type is None:
                    counts.nulls[name] += 1
            staged.add(
                {
                    "partition_date": date,
                    "primary_timestamp": instant.isoformat(),
                    "primary_timestamp_field": timestamp_field,
                },
                fields,
            )
    return repeats


def extract_filter_values(client: DixaClient, attribute: str, staged: Staged) -> None:
    """Stage the values of a filter attribute."""
    for item in fetch_filter_values(client, attribute, staged.usage):
        staged.add({"value": item.value, "label": item.label})


def fetch_filter_values(
    client: DixaClient, attribute: str, usage: Usage | None = None
) -> tuple[FilterValue, ...]:
    """The values the vendor offers for a filter attribute, in its order."""
    values = {}
    for item in client.fetch_filter_values(attribute, usage):
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, str):
            raise ApiContractBroken(f"filter '{attribute}'", "a value is missing or not a text.")
        label = item.get("label")
        values[value] = FilterValue(value, label if isinstance(label, str) else None)
    return tuple(values.values())


def check_attributes(
    entry: Entry, *, filters: Collection[str] = (), breakdowns: Collection[str] = ()
) -> None:
    """Refuse to filter or break an entry down by what it does not advertise.

    The vendor ignores an attribute it does not know for an entry, and answers with numbers that
    were never filtered.
    """
    for setting, attributes in (("filters", filters), ("breakdowns", breakdowns)):
        for attribute in attributes:
            if attribute not in entry.attributes:
                known = ", ".join(sorted(entry.attributes)) or "none"
                raise ConfigError(
                    f"{setting} of {entry.kind} '{entry.id}'",
                    f"'{attribute}' is no filter attribute of it. Dixa would ignore it and give "
                    f"unfiltered numbers. It can be filtered by: {known}.",
                )


def _breakdowns(query: Query) -> Iterator[tuple[str, FilterValue]]:
    for attribute, values in query.breakdowns.items():
        wanted = query.filters.get(attribute)
        for value in values:
            if wanted is None or value.value in wanted:
                yield attribute, value


def _aggregates(
    metric_id: str, data: Mapping[str, Any]
) -> Iterator[tuple[str, str | None, float | None, Any]]:
    """(measure, status, value, the whole aggregate where its shape is unknown)."""
    aggregates = data.get("aggregates") or []
    if not isinstance(aggregates, list):
        raise ApiContractBroken(f"metric '{metric_id}'", "'aggregates' is not a list.")
    for item in aggregates:
        if not isinstance(item, dict):
            yield "unknown", None, None, item
            continue
        kind, content = item.get("_type"), item.get("value")
        measure = item.get("measure")
        if not isinstance(measure, str):
            presence = kind == "AgentPresenceDurationValue" or isinstance(content, list)
            measure = PRESENCE if presence else str(kind or "unknown")
        if content is None:
            yield measure, None, None, None if "value" in item or len(item) <= 2 else item
        elif isinstance(content, list) and all(map(_is_presence, content)):
            for part in content:
                yield measure, part["status"]["status"], _number(metric_id, part.get("value")), None
        elif isinstance(content, (int, float)) and not isinstance(content, bool):
            yield measure, None, _number(metric_id, content), None
        else:
            yield measure, None, None, item


def _is_presence(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("status"), dict):
        return False
    value = part.get("value")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(part["status"].get("status"), str) and (value is None or is_number)


def _number(metric_id: str, number: float | None) -> float | None:
    if isinstance(number, int) and abs(number) > EXACT_IN_DOUBLE:
        raise ApiContractBroken(
            f"metric '{metric_id}'",
            f"{str(number)[:40]} is too large to be kept exactly as a DOUBLE.",
        )
    return None if number is None else float(number)


def _read_row(query: Query, row: Any) -> tuple[datetime, str | None, dict[str, Value]]:
    """A row's primary timestamp, the name of its field, and the fields to be stored."""
    primary = row.get("primaryTimestampField") if isinstance(row, dict) else None
    instant = parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None
    items = (row.get("fields") if isinstance(row, dict) else None) or []
    if instant is None or not isinstance(primary, dict) or not isinstance(items, list):
        raise ApiContractBroken(
            f"record '{query.entry.id}'",
            "a row has no readable primaryTimestampField, or its 'fields' are not a list; the day "
            "was left as it was.",
        )
    fields: dict[str, Value] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise ApiContractBroken(f"record '{query.entry.id}'", "a field has no name.")
        if name not in query.excluded_fields:
            name = speakable(name)
            fields[name] = read_value(item.get("field"))
    if "value" in row and "value" not in query.excluded_fields:
        fields[RECORD_VALUE.field] = read_value(row["value"])
    timestamp_field = primary.get("name")
    return instant, timestamp_field if isinstance(timestamp_field, str) else None, fields


def _z(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
