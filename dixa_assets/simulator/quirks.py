"""What an account may do otherwise than most, where the vendor documents nothing: by switches."""

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

# A local day of 25 hours is one day.
LONGEST_DAY = timedelta(hours=25)
# Records whose value is a length of time.
DURATIONS = frozenset(
    {"conversation_assignments", "first_response_time", "handling_time", "agent_presence"}
)
RATE_HEADERS = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9"}


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an account differs from what most have; each stands for one open question."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    auth: Literal["either", "raw", "bearer"] = "either"
    # Beside the setting that makes a filter compulsory for both.
    needs_filter: Literal["neither", "metrics", "records"] = "neither"
    # A filter that names all values of an attribute keeps rows that have none.
    keeps_rows_without: bool = False
    links_to_an_empty_page: bool = False
    # A page key holds the whole question, so that the body beside it is not read.
    key_is_enough: bool = False
    shuffles_pages: bool = False
    # A period looks at a time that lies so long before a row's primary timestamp.
    looks_back_minutes: NonNegativeFloat = 0.0
    # What a longer period asks for after so many days is left out, without a word.
    cuts_after_days: PositiveInt | None = None
    longest_days: PositiveInt | None = None
    # What lies before is gone.
    history_since: date | None = None
    empty: Literal["mixed", "null", "zero", "nothing"] = "mixed"
    # Only the first measure comes when none is named.
    gives_one_measure: bool = False
    # An interval's instants are read on the clock of the account, then taken for the zone's.
    shifts_by_zone: bool = False
    # The catalogue lists the fields that rows have, no others.
    declares_its_fields: bool = False
    in_milliseconds: bool = False
    tells_its_rate: bool = False
    # What is refused is not told why.
    is_terse: bool = False

    def filters(self, filters: Iterable[Filter]) -> tuple[Filter, ...]:
        """The filters that leave something out."""
        return tuple(
            one
            for one in filters
            if not self.keeps_rows_without
            or {each.value for each in filter_values(one.attribute) or ()} - {*one.values}
        )

    def period(self, start: datetime, end: datetime, *, timezone: str) -> tuple[datetime, datetime]:
        """Where the rows of a period are looked for."""
        back = timedelta(minutes=self.looks_back_minutes)
        if self.shifts_by_zone:
            back += _offset(start, ZoneInfo(timezone)) - _offset(start, HOME)
        start, end = start + back, end + back
        if self.cuts_after_days:
            end = min(end, start + self.cuts_after_days * LONGEST_DAY)
        if self.history_since:
            start = max(start, datetime.combine(self.history_since, time(), UTC))
        return start, end

    def aggregates(
        self, metric_id: str, found: Sequence[Json], asked: Sequence[str], offered: Sequence[str]
    ) -> list[Json]:
        """A metric's aggregates; a measure that it does not offer is left out, not refused."""
        wanted = asked or (offered[:1] if self.gives_one_measure else offered)
        if self.empty != "mixed" and not any(one["value"] for one in found):
            value = {"null": None, "zero": 0}.get(self.empty)
            form = {"_type": "DoubleAggregateValue", "value": value}
            measures = [each for each in wanted if each != PRESENCE and self.empty != "nothing"]
            return [{**form, "measure": measure} for measure in measures]
        if self.in_milliseconds and KNOWN_METRICS[metric_id].record_id in DURATIONS:
            found = [_times_thousand(one) for one in found]
        return [one for one in found if not wanted or measure_of(one) in wanted]

    def row(self, record_id: str, row: Json) -> Json:
        """A record's row as it is sent."""
        if self.in_milliseconds and record_id in DURATIONS and "value" in row:
            return {**row, "value": {**row["value"], "value": row["value"]["value"] * 1000}}
        return row

    def page(self, rows: list[Json]) -> list[Json]:
        """The rows of one page as they come."""
        return random.sample(rows, len(rows)) if self.shuffles_pages else rows

    def entry(self, entry: Json, names: Iterable[str]) -> Json:
        """A record's catalogue entry, when its rows have the fields `names`."""
        if not self.declares_its_fields:
            return entry
        known = {item["field"]: item for item in entry["fieldsMetadata"]}
        fields = [known.get(name, {"field": name, "nullable": True}) for name in names]
        return {**entry, "fieldsMetadata": fields}

    @property
    def headers(self) -> Mapping[str, str]:
        """What every answer has beside its type."""
        return RATE_HEADERS if self.tells_its_rate else {}


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).replace(tzinfo=UTC) - at.astimezone(UTC)


def _times_thousand(aggregate: Json) -> Json:
    value = aggregate["value"]
    if isinstance(value, list):
        return {**aggregate, "value": [{**one, "value": one["value"] * 1000} for one in value]}
    is_length = measure_of(aggregate) not in ("Count", "Percentage")
    return {**aggregate, "value": value * 1000} if is_length else aggregate
