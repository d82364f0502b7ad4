"""Switches for behaviour that the vendor does not document and that differs between accounts.

Behaviour that is an error belongs in `faults`.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, NonNegativeFloat, PositiveInt

from dixa_assets.simulator.measures import PRESENCE, measure_of
from dixa_assets.simulator.people import HOME, filter_values
from dixa_assets.simulator.values import Json
from dixa_assets.simulator.world import KNOWN_METRICS, Filter

# The longest local day, when the clocks go back.
LONGEST_DAY = timedelta(hours=25)
# Records whose value is a duration.
DURATIONS = frozenset(
    {"conversation_assignments", "first_response_time", "handling_time", "agent_presence"}
)
RATE_HEADERS = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9"}


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an account differs from most accounts. Each switch answers one open question."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    auth: Literal["either", "raw", "bearer"] = "either"
    # In addition to the setting `require_filter`, which applies to both.
    needs_filter: Literal["neither", "metrics", "records"] = "neither"
    # A filter with all values of an attribute also keeps rows without a value.
    keeps_rows_without: bool = False
    # The last page with rows has a link to an empty page.
    links_to_an_empty_page: bool = False
    # A page key stands for the whole request. The server ignores the body sent with it.
    key_is_enough: bool = False
    # The rows of a page are in random order.
    shuffles_pages: bool = False
    # A period selects rows by a time that is this much earlier than the primary timestamp.
    looks_back_minutes: NonNegativeFloat = 0.0
    # The server silently omits the rows of a longer period after this many days.
    cuts_after_days: PositiveInt | None = None
    # The server rejects a longer period.
    longest_days: PositiveInt | None = None
    # No rows exist before this day.
    history_since: date | None = None
    # The aggregates of a metric without rows; "mixed" is a Count of 0 and no other measure.
    empty: Literal["mixed", "null", "zero", "nothing"] = "mixed"
    # A request without aggregations returns the first measure only.
    gives_one_measure: bool = False
    # The server takes the local time of an interval in the request's zone for the account's.
    shifts_by_zone: bool = False
    # The catalogue lists exactly the fields of the rows.
    declares_its_fields: bool = False
    # Durations are in milliseconds instead of seconds.
    in_milliseconds: bool = False
    # Every answer has headers about the rate limit.
    tells_its_rate: bool = False
    # A rejection gives no reason.
    is_terse: bool = False

    def effective_filters(self, filters: Iterable[Filter]) -> tuple[Filter, ...]:
        """The filters that can exclude rows."""
        if not self.keeps_rows_without:
            return tuple(filters)
        return tuple(
            filter_
            for filter_ in filters
            if {choice.value for choice in filter_values(filter_.attribute) or ()}
            - {*filter_.values}
        )

    def effective_period(
        self, start: datetime, end: datetime, *, timezone: str
    ) -> tuple[datetime, datetime]:
        """The period from which the server returns rows."""
        shift = timedelta(minutes=self.looks_back_minutes)
        if self.shifts_by_zone:
            shift += _offset(start, ZoneInfo(timezone)) - _offset(start, HOME)
        start, end = start + shift, end + shift
        if self.cuts_after_days:
            end = min(end, start + self.cuts_after_days * LONGEST_DAY)
        if self.history_since:
            start = max(start, datetime.combine(self.history_since, time(), UTC))
        return start, end

    def aggregates(
        self,
        metric_id: str,
        computed: Sequence[Json],
        *,
        requested: Sequence[str],
        offered: Sequence[str],
    ) -> list[Json]:
        """The aggregates of an answer. Measures that the metric does not offer have no effect."""
        measures = requested or (offered[:1] if self.gives_one_measure else offered)
        if self.empty != "mixed" and not any(aggregate["value"] for aggregate in computed):
            value = {"null": None, "zero": 0}.get(self.empty)
            return [
                {"_type": "DoubleAggregateValue", "value": value, "measure": measure}
                for measure in measures
                if measure != PRESENCE and self.empty != "nothing"
            ]
        if self.in_milliseconds and KNOWN_METRICS[metric_id].record_id in DURATIONS:
            computed = [_times_thousand(aggregate) for aggregate in computed]
        return [
            aggregate for aggregate in computed if not measures or measure_of(aggregate) in measures
        ]

    def row(self, record_id: str, row: Json) -> Json:
        """The JSON of a row as the server sends it."""
        if self.in_milliseconds and record_id in DURATIONS and "value" in row:
            return {**row, "value": {**row["value"], "value": row["value"]["value"] * 1000}}
        return row

    def page(self, rows: list[Json]) -> list[Json]:
        """The rows of one page in the order in which the server sends them."""
        return random.sample(rows, len(rows)) if self.shuffles_pages else rows

    def entry(self, entry: Json, names: Iterable[str]) -> Json:
        """The catalogue entry of a record whose rows have the fields `names`."""
        if not self.declares_its_fields:
            return entry
        known = {item["field"]: item for item in entry["fieldsMetadata"]}
        fields = [known.get(name, {"field": name, "nullable": True}) for name in names]
        return {**entry, "fieldsMetadata": fields}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every answer, except the content type."""
        return RATE_HEADERS if self.tells_its_rate else {}


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).replace(tzinfo=UTC) - at.astimezone(UTC)


def _times_thousand(aggregate: Json) -> Json:
    value = aggregate["value"]
    if isinstance(value, list):
        return {**aggregate, "value": [{**item, "value": item["value"] * 1000} for item in value]}
    is_duration = measure_of(aggregate) not in ("Count", "Percentage")
    return {**aggregate, "value": value * 1000} if is_duration else aggregate
