"""The state that changes while the server runs: settings, clock, rate limit, log, catalogue.

The data never change; they belong in `world`.
"""

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
    """How the server behaves. Every value can be changed while it runs; rate 0 means no limit."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rate: NonNegativeFloat = 10.0
    burst: PositiveInt = 4
    latency_ms: NonNegativeFloat = 0.0
    max_page_limit: PositiveInt = 300
    # Limits the pages of catalogues and filter values, whatever `pageLimit` says.
    catalogue_page_limit: PositiveInt | None = None
    require_filter: bool = False
    end: Literal["inclusive", "exclusive"] = "inclusive"
    next_form: Literal["relative", "absolute", "bare_key", "key_for_link"] = "relative"
    retry_after: NonNegativeFloat | None = None


def with_changes(current: T, changes: Json) -> T:
    """Settings or quirks with some values changed.

    Raises:
        ValueError: A name is unknown or a value is invalid.
    """
    adapter = TypeAdapter(type(current))
    values = {**adapter.dump_python(current, mode="json"), **changes}
    return adapter.validate_json(json.dumps(values), strict=True)


class TokenBucket:
    """A token bucket like that of the vendor's gateway: full at first, refilled evenly."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._refilled_at = time.monotonic()

    def take(self) -> bool:
        """Take a token; False if there is none."""
        if not self._rate:
            return True
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A catalogue entry, and the id of the built-in metric or record that provides its data."""

    entry: Json
    source: str

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter attributes that the entry offers."""
        return self._names("filters", "filterAttribute")

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that the entry offers; empty if it lists none."""
        return self._names("aggregations", "measure")

    def _names(self, key: str, name: str) -> tuple[str, ...]:
        # An entry from the control endpoints may have any shape.
        items = self.entry.get(key)
        if not isinstance(items, list):
            return ()
        return tuple(item[name] for item in items if isinstance(item, dict) and name in item)


class Catalogue:
    """The current catalogue.

    Args:
        late_at: When to add the late metric, by the monotonic clock; None for never.
    """

    def __init__(self, late_at: float | None = None) -> None:
        self.metrics = {
            id_: CatalogueEntry(metric.to_api(), id_) for id_, metric in METRICS.items()
        }
        self.records = {
            id_: CatalogueEntry(record.to_api(), id_) for id_, record in RECORDS.items()
        }
        self.extra_fields: dict[str, dict[str, Json]] = {}
        self._late_at = late_at

    def add_late_metric_if_due(self) -> None:
        """Add the late metric if its time has come."""
        if self._late_at is not None and time.monotonic() >= self._late_at:
            self._late_at = None
            self.metrics[LATE_METRIC.id] = CatalogueEntry(LATE_METRIC.to_api(), LATE_METRIC.id)

    def entries(self, kind: Kind) -> dict[str, CatalogueEntry]:
        """The metrics or the records, by id."""
        return self.metrics if kind == "metrics" else self.records

    def put(self, kind: Kind, entry: Json, source: str) -> None:
        """Add or replace an entry that has the data of another one.

        Raises:
            ValueError: There is no entry with the id `source`.
        """
        entries = self.entries(kind)
        built_in = {*METRICS, LATE_METRIC.id} if kind == "metrics" else {*RECORDS}
        if source in entries:
            source = entries[source].source
        elif source not in built_in:
            raise ValueError(f"no entry to take the data from: {source!r}")
        entries[str(entry["id"])] = CatalogueEntry(deepcopy(entry), source)

    def with_extra_fields(self, record_id: str, api_row: Json) -> Json:
        """A data row with the extra fields of its record. They replace fields of the same name."""
        extra = self.extra_fields.get(record_id)
        if not extra:
            return api_row
        kept = [field for field in api_row["fields"] if field["name"] not in extra]
        added = [{"name": name, "field": data} for name, data in extra.items()]
        return {**api_row, "fields": kept + added}


@dataclass(slots=True)
class State:
    """Everything that the API and the control endpoints share.

    `stopped_at` is the instant of a stopped clock. `log` holds the latest API requests in order of
    arrival, without their headers.
    """

    world: World
    key: str
    settings: Settings = field(default_factory=Settings)
    quirks: Quirks = field(default_factory=Quirks)
    stopped_at: datetime | None = None
    catalogue: Catalogue = field(default_factory=Catalogue)
    log: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    faults: Faults = field(default_factory=Faults)
    bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self.fill_bucket()

    def now(self) -> datetime:
        """The current instant in UTC; the stopped clock's instant if it is stopped."""
        return self.stopped_at or datetime.now(UTC)

    def reset(self, *, now: datetime | None) -> None:
        """Restore the built-in catalogue and defaults, without log, faults or rate limit."""
        self.settings = Settings(rate=0.0)
        self.quirks = Quirks()
        self.stopped_at = now
        self.catalogue = Catalogue()
        self.log.clear()
        self.faults.clear()
        self.fill_bucket()

    def fill_bucket(self) -> None:
        """Create a full bucket with the current settings."""
        self.bucket = TokenBucket(rate=self.settings.rate, burst=self.settings.burst)
