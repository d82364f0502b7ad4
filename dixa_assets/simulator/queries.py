"""Parses the body of a data request: id, period or conversations, filters, aggregations.

It rejects what the vendor's schema rejects, with messages like those of the vendor's server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from dixa_assets.simulator.measures import MEASURES
from dixa_assets.simulator.world import Filter

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
ZONES = frozenset(available_timezones())
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
INT64 = range(-(2**63), 2**63)


class ApiError(Exception):
    """A request that the API answers with a status other than 200 and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Query:
    """One data request, for a half-open period or for conversations by number."""

    id: str
    filters: tuple[Filter, ...]
    aggregations: tuple[str, ...]
    start: datetime | None = None
    end: datetime | None = None
    csids: tuple[int, ...] = ()


def bad_body(detail: str) -> ApiError:
    """The error (400) for an invalid body."""
    return ApiError(400, f"Invalid value for: body ({detail})")


def parse_query(
    body: Any, *, now: datetime, for_metric: bool, require_filter: bool, inclusive_end: bool
) -> Query:
    """Parse the body of a data request.

    Args:
        body: The decoded JSON.
        now: The current instant, for presets such as `Yesterday`.
        for_metric: Whether `aggregations` are allowed.
        require_filter: Whether a period needs at least one filter.
        inclusive_end: Whether a row exactly at the end of an interval belongs to it.

    Raises:
        ApiError: The body is invalid (400).
    """
    if not isinstance(body, dict):
        raise bad_body("expected a JSON object")
    for key in ("id", "timezone"):
        if not isinstance(body.get(key), str):
            raise bad_body(f"expected a string at '{key}'")
    zone_name: str = body["timezone"]
    if zone_name not in ZONES:
        raise bad_body("unknown timezone")
    filters = _parse_filters(body.get("filters"))
    aggregations = _parse_aggregations(body.get("aggregations"), for_metric=for_metric)
    period, csids = body.get("periodFilter"), body.get("csidFilter")
    if (period is None) == (csids is None):
        raise bad_body("expected either 'periodFilter' or 'csidFilter'")
    if period is None:
        return Query(body["id"], filters, aggregations, csids=_parse_csids(csids))
    if require_filter and not filters:
        raise bad_body("a period needs at least one of 'filters'")
    start, end = _parse_period(period, now.astimezone(ZoneInfo(zone_name)), inclusive_end)
    return Query(body["id"], filters, aggregations, start=start, end=end)


def _parse_filters(filters: Any) -> tuple[Filter, ...]:
    if filters is None:
        return ()
    if not isinstance(filters, list):
        raise bad_body("expected a list at 'filters'")
    for item in filters:
        if not isinstance(item, dict) or not isinstance(item.get("attribute"), str):
            raise bad_body("expected a string at 'filters.attribute'")
        values = item.get("values")
        if not isinstance(values, list) or not values:
            raise bad_body("expected at least one value at 'filters.values'")
        if not all(isinstance(value, str) for value in values):
            raise bad_body("expected strings at 'filters.values'")
    return tuple(Filter(item["attribute"], tuple(item["values"])) for item in filters)


def _parse_aggregations(measures: Any, *, for_metric: bool) -> tuple[str, ...]:
    if measures is None:
        return ()
    if not for_metric:
        raise bad_body("'aggregations' do not apply to records")
    if not isinstance(measures, list) or not all(name in MEASURES for name in measures):
        raise bad_body("unknown measure at 'aggregations'")
    return tuple(measures)


def _parse_csids(csids: Any) -> tuple[int, ...]:
    if not isinstance(csids, list) or not csids:
        raise bad_body("expected at least one number at 'csidFilter'")
    if not all(type(csid) is int and csid in INT64 for csid in csids):
        raise bad_body("expected whole numbers at 'csidFilter'")
    return tuple(csids)


def _parse_period(
    period: Any, local_now: datetime, inclusive_end: bool
) -> tuple[datetime, datetime]:
    match period:
        case {"_type": "Interval", "start": str(start), "end": str(end)}:
            first, last = _parse_instant(start), _parse_instant(end)
            if first > last:
                raise bad_body("'start' is after 'end'")
            return first, last + datetime.resolution if inclusive_end else last
        # The vendor's examples nest the name, the vendor's schema does not. Accept both.
        case {"_type": "Preset", "value": {"_type": str(name)} | str(name)} if name in _PRESETS:
            days = _PRESETS[name](local_now.date())
            start_of_first, start_of_next = (
                datetime.combine(day, time(), local_now.tzinfo).astimezone(UTC) for day in days
            )
            return start_of_first, start_of_next
    raise bad_body("expected an Interval or a Preset at 'periodFilter'")


def _parse_instant(text: str) -> datetime:
    if not INSTANT.fullmatch(text):
        raise bad_body("expected a date and time with an offset")
    try:
        return min(datetime.fromisoformat(text).astimezone(UTC), LATEST)
    except (ValueError, OverflowError):
        raise bad_body("no such date and time") from None


def _week(day: date, weeks: int = 0) -> date:
    return day - timedelta(days=day.weekday() - 7 * weeks)


def _month(day: date, months: int = 0) -> date:
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def _quarter(day: date, quarters: int = 0) -> date:
    return _month(day, 3 * quarters - (day.month - 1) % 3)


# For the current day: the first day of the period, and the first day after it.
_PRESETS: dict[str, Callable[[date], tuple[date, date]]] = {
    "Today": lambda day: (day, day + timedelta(days=1)),
    "Yesterday": lambda day: (day - timedelta(days=1), day),
    "ThisWeek": lambda day: (_week(day), _week(day, 1)),
    "PreviousWeek": lambda day: (_week(day, -1), _week(day)),
    "ThisMonth": lambda day: (_month(day), _month(day, 1)),
    "PreviousMonth": lambda day: (_month(day, -1), _month(day)),
    "ThisQuarter": lambda day: (_quarter(day), _quarter(day, 1)),
    "PreviousQuarter": lambda day: (_quarter(day, -1), _quarter(day)),
    "ThisYear": lambda day: (date(day.year, 1, 1), date(day.year + 1, 1, 1)),
}
