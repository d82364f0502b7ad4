"""The rows of one entry and period, staged on disk for the warehouse.

This module reads pages and flattens typed fields. Request bodies are in `requests.py`.
"""

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.requests import Request, fetch_filter_values
from dixa_assets.errors import (
    ApiContractBroken,
    ApiError,
    PageKeyRefused,
    PagesCutShort,
    PeriodUncertain,
    RowsMoved,
    printable,
)
from dixa_assets.model.counts import Usage
from dixa_assets.model.days import Day, Period, Span
from dixa_assets.model.tables import RECORD_VALUE
from dixa_assets.model.values import EXACT_IN_DOUBLE, PRESENCE, parse_instant, type_name
from dixa_assets.staging import Staged

logger = logging.getLogger(__name__)

# The types of aggregates that the vendor documents.
DOCUMENTED_AGGREGATES = ("LongAggregateValue", "DoubleAggregateValue", "AgentPresenceDurationValue")
# Page keys can expire. After a refused key the pages are read again, this many times in all.
READINGS = 3


def extract(
    client: DixaClient,
    request: Request,
    day: Day,
    staged: Staged,
    period: Period | None = None,
) -> None:
    """Stage a day: the aggregates of a metric, or all rows of a record.

    Args:
        client: Sends the requests.
        request: The request for the entry.
        day: The partition that the rows belong to.
        staged: Takes the rows.
        period: A part of the day, for records only; None for the whole day.

    Raises:
        PeriodUncertain: The rows of a record may be incomplete, because pages overlap or the
            response may be truncated. Request the period again in smaller parts.
    """
    if day.is_empty:
        return
    if request.spec.entry.kind == "metric":
        _extract_metric(client, request, day, staged)
    else:
        _extract_record(client, request, day, period or day.period, staged)


def extract_span(
    client: DixaClient, request: Request, day: Day, staged: Staged, span: Span
) -> None:
    """Stage the values of a metric for a week or month that ends with a day.

    Nothing is staged if the API refuses the period: the day must not depend on it.
    """
    try:
        _extract_metric(client, request, day, staged, span)
    except ApiError as error:
        if error.status != 400 and (error.status or 0) < 500:
            raise
        staged.clear()
        logger.warning("the %s from %s is not stored: %s", span.name, span.first_day, error)


def _extract_metric(
    client: DixaClient, request: Request, day: Day, staged: Staged, span: Span | None = None
) -> None:
    """Stage the total of the day or the span, then each breakdown value."""
    metric, period = request.spec.entry, span.period if span else day.period
    own = {"period": span.name, "first_day": str(span.first_day)} if span else {}
    for attribute, value in ((None, None), *request.breakdown_values()):
        narrowed = {attribute: value.value} if attribute and value else {}
        data = client.fetch_metric_data(request.body(period, **narrowed), staged.usage)
        named = value and staged.policy.filter_value(attribute or "", value.value, value.label)
        for measure, status, number, unknown in _aggregates(metric.id, data):
            if number is not None and attribute is None:
                staged.totals[f"{measure} ({status})" if status else measure] = number
            staged.add_row(
                {
                    **own,
                    "metric": metric.id,
                    "partition_date": str(day),
                    "interval_start": period.start.isoformat(),
                    "interval_end": period.end.isoformat(),
                    "timezone": day.timezone,
                    "breakdown_attribute": attribute,
                    "breakdown_value": named and named[0],
                    "breakdown_label": named and named[1],
                    "measure": measure,
                    "status": status,
                    "value": number,
                    "aggregate": unknown,
                }
            )
        for kind in _unknown_aggregates(data):
            staged.unknown["aggregates"] = type_name(kind)


def _extract_record(
    client: DixaClient, request: Request, day: Day, period: Period, staged: Staged
) -> None:
    """Stage all pages of a period."""
    for reading in range(1, READINGS + 1):
        staged.clear()
        try:
            _stage_pages(client, request, day, period, staged)
            break
        except PageKeyRefused:
            if reading == READINGS:
                raise


def _stage_pages(
    client: DixaClient, request: Request, day: Day, period: Period, staged: Staged
) -> None:
    """Stage all pages once.

    Rows outside the day are stored and counted, because the vendor does not document which
    timestamp selects rows. A row exactly at the end belongs to the next period and is dropped,
    unless the probe found that the period selects rows by another timestamp.

    The API cuts pages by row number. If a row is inserted between two requests, or if rows with the
    same timestamp change their order, one row is on two pages and another on none.
    """
    spec = request.spec
    rows = _Rows(request, day, period, staged)
    try:
        for page in _pages(client, request, period, staged.usage):
            rows.add_page(page)
    except PeriodUncertain as error:
        # If another timestamp selects the rows, their primary timestamps do not show where the
        # answer was truncated.
        if spec.selects_by_primary_timestamp:
            error.first, error.last = rows.first, rows.last
        raise
    if rows.rows_at_end and spec.is_end_exclusive:
        logger.warning(
            "record '%s': the API returned rows at the end of the period, but the probe found "
            "that it excludes them. Run `python -m dixa_assets probe` again.",
            printable(spec.entry.id),
        )


def _pages(
    client: DixaClient, request: Request, period: Period, usage: Usage
) -> Iterator[list[dict[str, Any]]]:
    """Read the pages of a period.

    The shortest periods cannot be split. If such a period has several pages or looks truncated, it
    is read again with another page size. Both readings must return the same number of rows. If a
    row is on two pages, both must return exactly the same rows in the same order.
    """
    body = request.body(period)
    if not period.is_shortest:
        yield from client.fetch_record_pages(body, usage)
        return
    pages: list[list[dict[str, Any]]] = []
    is_certain = False
    with suppress(PagesCutShort):
        pages += client.fetch_record_pages(body, usage)
        is_certain = len(pages) <= 1
    rows = [*itertools.chain(*pages)]
    if not is_certain:
        others = client.fetch_record_pages(body, usage, client.second_reading_size(len(rows)))
        again = [*itertools.chain(*others)]
        texts = [{*map(_text, page)} for page in pages]
        is_repeated = len(set().union(*texts)) < sum(map(len, texts))
        if len(again) != len(rows) or (is_repeated and again != rows):
            raise RowsMoved(
                f"record '{request.spec.entry.id}'",
                f"two readings of the period from {period.start.isoformat()} do not agree.",
            )
    yield rows


def _text(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


class _Rows:
    """Stages the rows of a period, page by page, and notices rows that moved."""

    def __init__(self, request: Request, day: Day, period: Period, staged: Staged) -> None:
        self._request, self._period, self._staged = request, period, staged
        self._date, self._day_period = str(day), day.period
        spec = request.spec
        self._required = {
            item.field: staged.key_of(item.field)
            for item in spec.entry.fields
            if not item.nullable and item.field not in spec.excluded_fields
        }
        # A row outside the day is stored; a row outside its part of the day would be stored twice.
        self._is_part = spec.selects_by_primary_timestamp and period != day.period
        # The rows of the previous page, grouped by timestamp. For a timestamp that earlier pages
        # have too, `_shared_texts` holds the JSON of all its rows.
        self._latest: dict[datetime, list[dict[str, Any]]] = {}
        self._shared_texts: dict[datetime, set[str]] = {}
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.rows_at_end = 0

    def add_page(self, page: list[dict[str, Any]]) -> None:
        """Stage the rows of a page.

        Raises:
            RowsMoved: A row was on an earlier page.
        """
        record_id = self._request.spec.entry.id
        latest: defaultdict[datetime, list[dict[str, Any]]] = defaultdict(list)
        for row in page:
            instant, timestamp_field, items = _read_row(record_id, row)
            latest[instant].append(row)
            self._add_row(row, instant, timestamp_field, items)
        shared: dict[datetime, set[str]] = {}
        for at in latest.keys() & self._latest.keys():
            before = self._shared_texts.get(at) or {*map(_text, self._latest[at])}
            now = {*map(_text, latest[at])}
            if before & now:
                raise RowsMoved(
                    f"record '{record_id}'", "a row is on two pages, so another may be missing."
                )
            shared[at] = before | now
        self._latest, self._shared_texts = latest, shared

    def _add_row(
        self, row: dict[str, Any], instant: datetime, timestamp_field: str | None, items: list[Any]
    ) -> None:
        spec, period = self._request.spec, self._period
        if instant == period.end and spec.selects_by_primary_timestamp:
            self.rows_at_end += 1
            return
        if self._is_part and not period.start <= instant < period.end:
            raise ApiContractBroken(
                f"record '{spec.entry.id}'",
                "the response for a part of the day has rows of other parts, so rows may be "
                "missing or doubled. Run `python -m dixa_assets probe`: it finds how periods "
                "select rows.",
            )
        self.first = min(self.first or instant, instant)
        self.last = max(self.last or instant, instant)
        staged, day = self._staged, self._day_period
        line: dict[str, Any] = {
            "partition_date": self._date,
            "primary_timestamp": instant.isoformat(),
            "primary_timestamp_field": timestamp_field,
        }
        is_forgotten = _put_fields(self._request, row, items, staged, line)
        staged.counts.outside_day += not day.start <= instant < day.end
        for name, key in self._required.items():
            if line.get(key) is None and not is_forgotten:
                staged.counts.nulls[name] += 1
        staged.add_row(line)


def _unknown_aggregates(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the undocumented types among a metric's aggregates."""
    for item in data.get("aggregates") or []:
        kind = item.get("_type") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind not in DOCUMENTED_AGGREGATES:
            yield kind


def extract_filter_values(client: DixaClient, attribute: str, staged: Staged) -> None:
    """Stage the values of a filter attribute."""
    for item in fetch_filter_values(client, attribute, staged.usage):
        value, label = staged.policy.filter_value(attribute, item.value, item.label)
        staged.add_row({"value": value, "label": label})


def _aggregates(
    metric_id: str, data: Mapping[str, Any]
) -> Iterator[tuple[str, str | None, float | None, Any]]:
    """Yield measure, status, value, and the whole aggregate if its shape is unknown."""
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
            f"{str(number)[:40]} is too large to be stored exactly as a DOUBLE.",
        )
    return None if number is None else float(number)


def _read_row(record_id: str, row: Any) -> tuple[datetime, str | None, list[Any]]:
    """Return a row's primary timestamp, the name of its field, and its fields."""
    primary = row.get("primaryTimestampField") if isinstance(row, dict) else None
    instant = parse_instant(primary.get("timestamp")) if isinstance(primary, dict) else None
    items = (row.get("fields") if isinstance(row, dict) else None) or []
    if instant is None or not isinstance(primary, dict) or not isinstance(items, list):
        raise ApiContractBroken(
            f"record '{record_id}'",
            "a row has no readable primaryTimestampField, or its 'fields' are not a list. The "
            "stored rows of the day did not change.",
        )
    timestamp_field = primary.get("name")
    return instant, timestamp_field if isinstance(timestamp_field, str) else None, items


def _put_fields(
    request: Request, row: Any, items: list[Any], staged: Staged, line: dict[str, Any]
) -> bool:
    """Put a row's fields and the row's `value` into its line, as the policy treats them.

    Returns:
        True if the row is about a forgotten person.
    """
    is_plain, is_forgotten = staged.policy.is_plain, False
    put: Callable[..., bool | None] = staged.put_field if is_plain else staged.put_treated
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise ApiContractBroken(f"record '{request.spec.entry.id}'", "a field has no name.")
        if put(line, name, item.get("field")):
            is_forgotten = True
    if "value" in row and put(line, RECORD_VALUE.field, row["value"]):
        is_forgotten = True
    if is_forgotten:
        fields = request.spec.entry.fields
        staged.blank_personal(line, {item.field: item.description for item in fields})
    return is_forgotten
