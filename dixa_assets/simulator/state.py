"""What changes while the server runs: settings, clock, token bucket, request log, catalogue."""

import json
import time
from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar

from pydantic import ConfigDict, NonNegativeFloat, PositiveInt, TypeAdapter

from dixa_assets.simulator.faults import Faults
from dixa_assets.simulator.metrics import LATE_METRIC, METRICS
from dixa_assets.simulator.quirks import Quirks
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.values import Json
from dixa_assets.simulator.world import World

KEPT_REQUESTS = 100_000

Kind = Literal["metrics", "records"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves; every value can be changed while it runs."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rate: NonNegativeFloat = 10.0
    burst: PositiveInt = 4
    latency_ms: NonNegativeFloat = 0.0
    max_page_limit: PositiveInt = 300
    # Caps the pages of catalogues and filter values, whatever a request asks for.
    catalogue_page_limit: PositiveInt | None = None
    require_filter: bool = False
    end: Literal["inclusive", "exclusive"] = "inclusive"
    next_form: Literal["relative", "absolute", "bare_key", "key_for_link"] = "relative"
    retry_after: NonNegativeFloat | None = None


def changed(switches: T, changes: Json) -> T:
    """Settings or quirks with some of them changed; raises ValueError for what makes no sense."""
    adapter = TypeAdapter(type(switches))
    whole = {**adapter.dump_python(switches, mode="json"), **changes}
    return adapter.validate_json(json.dumps(whole), strict=True)


class Bucket:
    """A token bucket as the vendor's gateway keeps one per key: full at first, refilled evenly."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more request is allowed now, which then takes a token."""
        if not self._rate:
            return True
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Listed:
    """A catalogue entry, and the built-in metric or record its data come from."""

    entry: Json
    like: str

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter attributes the entry offers."""
        return self._each("filters", "filterAttribute")

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures the entry offers, none when it lists none."""
        return self._each("aggregations", "measure")

    def _each(self, key: str, name: str) -> tuple[str, ...]:
        # Entries set up through the control endpoints may have any shape.
        items = self.entry.get(key)
        found = items if isinstance(items, list) else []
        return tuple(one[name] for one in found if isinstance(one, dict) and name in one)


class Shelf:
    """The catalogue as it stands now.

    Args:
        late_at: When the late metric joins, by the monotonic clock; None for never.
    """

    def __init__(self, late_at: float | None = None) -> None:
        self.metrics = {one.id: Listed(one.to_api(), one.id) for one in METRICS.values()}
        self.records = {one.id: Listed(one.to_api(), one.id) for one in RECORDS.values()}
        self.extra_fields: dict[str, dict[str, Json]] = {}
        self._late_at = late_at

    def welcome_late_metric(self) -> None:
        """Add the late metric once its time has come."""
        if self._late_at is not None and time.monotonic() >= self._late_at:
            self._late_at = None
            self.metrics[LATE_METRIC.id] = Listed(LATE_METRIC.to_api(), LATE_METRIC.id)

    def entries(self, kind: Kind) -> dict[str, Listed]:
        """The metrics or the records, by id."""
        return self.metrics if kind == "metrics" else self.records

    def put(self, kind: Kind, entry: Json, like: str) -> None:
        """Add or replace an entry whose data are those of another one."""
        listed = self.entries(kind)
        known = {*METRICS, LATE_METRIC.id} if kind == "metrics" else {*RECORDS}
        if like in listed:
            like = listed[like].like
        elif like not in known:
            raise ValueError(f"nothing to be like: {like!r}")
        listed[str(entry["id"])] = Listed(deepcopy(entry), like)

    def extend(self, record_id: str, api_row: Json) -> Json:
        """A data row with the extra fields of its record; one of the same name goes."""
        extra = self.extra_fields.get(record_id)
        if not extra:
            return api_row
        kept = [one for one in api_row["fields"] if one["name"] not in extra]
        added = [{"name": name, "field": data} for name, data in extra.items()]
        return {**api_row, "fields": kept + added}


@dataclass(slots=True)
class State:
    """Everything the API and the control endpoints share.

    `stopped_at` is the one instant the clock tells, if it was stopped. `log` holds the latest API
    requests in order of arrival, without their headers.
    """

    world: World
    key: str
    settings: Settings = field(default_factory=Settings)
    quirks: Quirks = field(default_factory=Quirks)
    stopped_at: datetime | None = None
    shelf: Shelf = field(default_factory=Shelf)
    # What each page key continues, where a key is enough.
    questions: dict[str, Json] = field(default_factory=dict)
    log: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    faults: Faults = field(default_factory=Faults)
    bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.fill_bucket()

    def now(self) -> datetime:
        """The current instant in UTC, as the clock tells it."""
        return self.stopped_at or datetime.now(UTC)

    def reset(self, *, now: datetime | None) -> None:
        """Go back to the built-in catalogue and an empty log, without faults or a rate limit."""
        self.settings = Settings(rate=0.0)
        self.quirks = Quirks()
        self.stopped_at = now
        self.shelf = Shelf()
        self.questions.clear()
        self.log.clear()
        self.faults.clear()
        self.fill_bucket()

    def fill_bucket(self) -> None:
        """Start the rate limit afresh with the current settings."""
        self.bucket = Bucket(rate=self.settings.rate, burst=self.settings.burst)
