"""One entry and one window of time -> rows, staged on disk for the warehouse.

Page walking, flattening typed fields.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.requests import Request, fetch_filter_values
from dixa_assets.errors import ApiContractBroken, PageKeyRefused, RowsAstray, RowsMoved
from dixa_assets.model.days import Window
from dixa_assets.model.tables import RECORD_VALUE
from dixa_assets.model.values import (
    EXACT_IN_DOUBLE,
    PRESENCE,
    parse_instant,
)
from dixa_assets.staging import Staged

logger = logging.getLogger(__name__)

# The types of aggregates that the vendor documents.
AGGREGATES = ("LongAggregateValue", "DoubleAggregateValue", "AgentPresenceDurationValue")
# A window's pages are read this often before its rows are said to be moving.
READINGS = 3


def extract(
    client: DixaClient,
    request: Request,
    window: Window,
    staged: Staged,
    days: Sequence[Window] = (),
) -> None:
    """Stage what the API has for one window: a metric's aggregates, or every page of a record.

    Args:
        client: Who asks.
        request: What is asked.
        window: From when to when.
        staged: Where the rows go.
        days: The days the window covers, when a record's covers several: each row goes to the day
            in which its primary timestamp lies. Or the day it is a part of.

    Raises:
        RowsAstray: A row lies outside a window of several days, so it is of no day for sure.
        RowsMoved: The pages overlapped in another place at each reading.
    """
    if window.is_empty:
        return
    if request.entry.kind == "metric":
        _extract_metric(client, request, window, staged)
    else:
        _extract_record(client, request, window, staged, days or (window,))


def _extract_metric(client: DixaClient, request: Request, window: Window, staged: Staged) -> None:
    """Stage the total, then each breakdown value."""
    for attribute, value in ((None, None), *request.narrowings()):
        narrowed = {attribute: value.value} if attribute and value else {}
        data = client.fetch_metric_data(request.body(window, **narrowed), staged.usage)
        for measure, status, number, unknown in _aggregates(request.entry.id, data):
            if number is not None and attribute is None:
                staged.totals[f"{measure} ({status})" if status else measure] = number
            staged.add(
                {
                    "metric": request.entry.id,
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
        for kind in _unknown_aggregates(data):
            staged.unknown["aggregates"] = kind


def _extract_record(
    client: DixaClient, request: Request, window: Window, staged: Staged, days: Sequence[Window]
) -> None:
    """Stage all pages, read again while they overlap.

    Pages are cut by number, so a row inserted while they are read makes another come twice. A
    window whose pages overlap is read again: rows that repeat in the same place each time are
    really equal and kept, others were moved.
    """
    repeats: list[Any] = []
    for reading in range(1, READINGS + 1):
        before = repeats
        try:
            repeats = _stage_pages(client, request, window, staged, days)
        except PageKeyRefused:
            if reading == READINGS:
                raise
        else:
            if repeats == before:
                return
        staged.clear()
    raise RowsMoved(
        f"record '{request.entry.id}'", f"rows moved between pages in each of {READINGS} readings."
    )


def _stage_pages(
    client: DixaClient, request: Request, window: Window, staged: Staged, days: Sequence[Window]
) -> list[dict[str, Any]]:
    """Stage all pages once; the rows that begin a page though the page before had them.

    Rows outside their day are kept and counted: which timestamp Dixa's period looks at is not
    documented, and trimming could lose rows. Only a row exactly on the end belongs to the next
    window for sure, and is left to it, unless it is known that the period looks at another time.
    """
    required = {
        item.field: staged.key_of(item.field)
        for item in request.entry.fields
        if not item.nullable and item.field not in request.excluded_fields
    }
    starts = [day.start for day in days]
    dates = [day.day.isoformat() for day in days]
    repeats, is_told = [], False
    previous: list[dict[str, Any]] = []
    for page in client.fetch_record_pages(request.body(window), staged.usage):
        if page[0] in previous:
            repeats.append(page[0])
        previous = page
        for row in page:
            instant, timestamp_field, items = _read_row(request, row)
            if instant == window.end and request.is_by_primary:
                if request.is_end_exclusive and not is_told:
                    is_told = True
                    logger.warning(
                        "record '%s': a row on the end of its window came, though the probe found "
                        "that Dixa leaves them out. Run `python -m dixa_assets probe` again.",
                        request.entry.id,
                    )
                continue
            if len(days) > 1 and not window.start <= instant < window.end:
                raise RowsAstray(
                    f"record '{request.entry.id}'",
                    f"a row of {instant.isoformat()} came for the time from "
                    f"{window.start.isoformat()} to {window.end.isoformat()}.",
                )
            date = dates[bisect_right(starts, instant) - 1] if len(days) > 1 else dates[0]
            counts = staged.days[date]
            counts.outside_window += not days[0].start <= instant < days[-1].end
            line: dict[str, Any] = {
                "partition_date": date,
                "primary_timestamp": instant.isoformat(),
                "primary_timestamp_field": timestamp_field,
            }
            _put_fields(request, row, items, staged, line)
            for name, key in required.items():
                if line.get(key) is None:
                    counts.nulls[name] += 1
            staged.add(line)
    return repeats


def _unknown_aggregates(data: Mapping[str, Any]) -> Iterator[str]:
    """The types of a metric's aggregates that nobody knows."""
    for item in data.get("aggregates") or []:
        kind = item.get("_type") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind not in AGGREGATES:
            yield kind


def extract_filter_values(client: DixaClient, attribute: str, staged: Staged) -> None:
    """Stage the values of a filter attribute."""
    for item in fetch_filter_values(client, attribute, staged.usage):
        staged.add({"value": item.value, "label": item.label})


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


def _read_row(request: Request, row: Any) -> tuple[datetime, str | None, list[Any]]:
    """A row's primary timestamp, the name of its field, and its fields."""
    primary = row.get("primaryTimestampField") if isinstance(row, dict) else None
    instant = parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None
    items = (row.get("fields") if isinstance(row, dict) else None) or []
    if instant is None or not isinstance(primary, dict) or not isinstance(items, list):
        raise ApiContractBroken(
            f"record '{request.entry.id}'",
            "a row has no readable primaryTimestampField, or its 'fields' are not a list; the day "
            "was left as it was.",
        )
    timestamp_field = primary.get("name")
    return instant, timestamp_field if isinstance(timestamp_field, str) else None, items


def _put_fields(
    request: Request, row: Any, items: list[Any], staged: Staged, line: dict[str, Any]
) -> None:
    """Put a row's fields and its own value into its line, as far as they are to be stored."""
    excluded = request.excluded_fields
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise ApiContractBroken(f"record '{request.entry.id}'", "a field has no name.")
        if name not in excluded:
            staged.put(line, name, item.get("field"))
    if "value" in row and "value" not in excluded:
        staged.put(line, RECORD_VALUE.field, row["value"])
