"""How entries are loaded: the user's settings, merged with the findings of the probe.

Settings about the connection to the API are in `api/settings.py`, settings about the database in
`warehouse/settings.py`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue, Entry, Fact
from dixa_assets.model.days import Day, Span, Weekday, spans_ending
from dixa_assets.model.merge import NEW_FIELD
from dixa_assets.model.privacy import STORE_ALL, FieldPolicy, Treatment, normalised
from dixa_assets.model.tables import METRICS_DAILY, PERIOD_VIEWS, Relation, Table, relation_of

EVERY_RECORD = "*"
# The environment variable with the key of all digests.
HASH_KEY = "DIXA_HASH_KEY"


class LoadSettings(BaseModel):
    """The user's settings of loads. `DixaAnalytics` inherits them."""

    model_config = ConfigDict(frozen=True)

    timezone: str = Field(
        default="Europe/Copenhagen",
        description="IANA zone whose midnights bound a day: the zone of your Dixa organisation.",
    )
    start_date: str = Field(default="2025-01-01", description="First partition, YYYY-MM-DD.")
    history_days: int = Field(
        default=30,
        description="Days that are loaded automatically when an asset first appears; 0: none.",
    )
    include: Sequence[str] = Field(default=(), description="Ids to load; empty: all.")
    exclude: Sequence[str] = Field(default=(), description="Ids not to load.")
    filters: Mapping[str, Mapping[str, Sequence[str]]] = Field(
        default={},
        description="Per id, filter attributes with the values to keep.",
        examples=[{"closed_conversations": {"channel": ["EMAIL", "CHAT"]}}],
    )
    breakdowns: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per metric id, filter attributes to break it down by: one more request per "
        "value and day.",
        examples=[{"closed_conversations": ["channel", "queue_id"]}],
    )
    required_filter: str = Field(
        default="",
        description="Set this only if Dixa rejects requests without a filter: every request then "
        "sends all values of this attribute.",
    )
    exclude_fields: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per record id, fields that are never stored; '*' stands for every record.",
        examples=[{"*": ["contact_point"]}],
    )
    only_fields: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per record id, the only fields that are stored; '*' stands for every record.",
        examples=[{"*": ["conversation_id", "queue_id"]}],
    )
    hash_fields: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per record id, fields that are stored as HMAC-SHA-256 under DIXA_HASH_KEY; "
        "'*' stands for every record.",
        examples=[{"*": ["customer_id"]}],
    )
    personal_fields: Sequence[str] = Field(
        default=(),
        description="Fields that `forget` blanks in the rows of a person; empty: contact points, "
        "names, e-mail addresses, phone numbers and comments.",
    )
    keep_days: int = Field(
        default=0, description="Days after which the rows of records are removed; 0: never."
    )
    periods: Sequence[str] = Field(
        default=(),
        description="Periods that Dixa computes besides days: week, month. The load of the day "
        "that ends a period requests it.",
    )
    week_starts_on: Weekday = Field(default="monday", description="The first day of a week.")

    @field_validator("periods", mode="before")
    @classmethod
    def _known_periods(cls, periods: Any) -> Any:
        if isinstance(periods, str):
            # The environment variable.
            periods = [each.strip() for each in periods.split(",") if each.strip()]
        if not isinstance(periods, Sequence):
            return periods
        for unknown in {*map(str, periods)} - PERIOD_VIEWS.keys():
            raise ConfigError("periods", f"'{unknown}' is neither week nor month.")
        return tuple(dict.fromkeys(periods))

    @property
    def views(self) -> list[Table]:
        """The views of all metrics: by day, and by each period."""
        return [METRICS_DAILY, *(PERIOD_VIEWS[period] for period in self.periods)]

    def wants(self, entry: Entry) -> bool:
        """Whether the entry is loaded."""
        return entry.id not in self.exclude and (not self.include or entry.id in self.include)

    def first_kept_day(self, entry: Entry, now: datetime) -> date:
        """The first day whose rows are kept. All days of a metric are kept."""
        if not self.keep_days or entry.kind == "metric":
            return date.min
        today = now.astimezone(ZoneInfo(self.timezone)).date()
        return date.fromordinal(max(today.toordinal() - self.keep_days, 1))


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The differences of an account's API that the probe found.

    Args:
        auth_scheme: The word before the token, if the API requires one.
        page_size: The largest page that the API accepts; 0 if it accepts the default.
        required_filter: The attribute that metrics are filtered by, if the API rejects requests
            without a filter.
        required_filter_of_records: The same for records.
        is_end_exclusive: True if the end of a period does not belong to it.
        selects_by_primary_timestamp: False if another timestamp decides which rows a period has.
    """

    auth_scheme: str = ""
    page_size: int = 0
    required_filter: str = ""
    required_filter_of_records: str = ""
    is_end_exclusive: bool = False
    selects_by_primary_timestamp: bool = True

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Self:
        """Read the probe's findings. Settings that this version does not know are ignored."""
        found = {fact.setting: fact.value for fact in facts if fact.setting}
        required = found.get("required_filter", "")
        return cls(
            auth_scheme=found.get("auth_scheme", ""),
            page_size=int(found.get("page_size", 0)),
            required_filter=required,
            required_filter_of_records=found.get("required_filter_of_records", required),
            is_end_exclusive="period_end" in found,
            selects_by_primary_timestamp="period_timestamp" not in found,
        )


@dataclass(frozen=True)
class LoadSpec:
    """How one metric or record is loaded: what is requested and what is stored.

    Args:
        entry: The metric or record.
        timezone: The zone whose midnights bound its days.
        filters: Attributes with the values to keep. Every request sends them.
        required_filter: An attribute whose values are all sent with every request. Empty: none.
        breakdowns: Attributes to break a metric down by: one more request per value.
        policy: How the fields of a record are treated before anything is written. For a metric,
            how its breakdowns are treated.
        is_end_exclusive: True if the end of a period does not belong to it.
        selects_by_primary_timestamp: False if another timestamp decides which rows a period has.
        periods: The periods of a metric that are requested with the day that ends them.
        week_starts_on: The first day of a week.
    """

    entry: Entry
    timezone: str
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    required_filter: str = ""
    breakdowns: tuple[str, ...] = ()
    policy: FieldPolicy = STORE_ALL
    is_end_exclusive: bool = False
    selects_by_primary_timestamp: bool = True
    periods: tuple[str, ...] = ()
    week_starts_on: Weekday = "monday"

    @cached_property
    def relation(self) -> Relation:
        """The table or view of the entry, without the fields that are left out."""
        return relation_of(self.entry, self.policy)

    @cached_property
    def excluded_fields(self) -> frozenset[str]:
        """The declared fields that are left out."""
        names = (item.field for item in self.entry.fields)
        return frozenset(name for name in names if not self.policy.treatment(name).is_kept)

    def spans_ending(self, day: Day) -> list[Span]:
        """The weeks and months that are requested with a day, because they end with it."""
        return spans_ending(day, self.periods, self.week_starts_on)

    @cached_property
    def code_version(self) -> str:
        """A digest of what is requested and stored.

        Dagster marks days that were loaded with another code version as stale.
        """
        policy, is_record = self.policy, self.entry.kind == "record"
        requested: dict[str, Any] = {
            "filters": {name: sorted(values) for name, values in self.filters.items()},
            "breakdowns": sorted(self.breakdowns),
            "required filter": self.required_filter,
            "excluded": sorted(policy.excluded) if is_record else [],
        }
        if is_record and (policy.hashed or policy.allowed is not None):
            requested |= {"hashed": sorted(policy.hashed), "allowed": sorted(policy.allowed or ())}
        return hashlib.sha256(json.dumps(requested, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Options:
    """The user's settings, merged with the findings of the probe.

    Args:
        settings: The settings of the user.
        adaptation: The findings of the probe.
        hash_key: The key of digests; empty if there is none.
    """

    settings: LoadSettings
    adaptation: Adaptation = Adaptation()
    hash_key: str = field(default="", repr=False)

    @property
    def timezone(self) -> str:
        """The zone whose midnights bound a day."""
        return self.settings.timezone

    def spec(self, entry: Entry) -> LoadSpec:
        """How an entry is loaded."""
        settings, found, is_metric = self.settings, self.adaptation, entry.kind == "metric"
        adapted = found.required_filter if is_metric else found.required_filter_of_records
        policy = self.policy() if is_metric else self.policy(entry.id)
        breakdowns = settings.breakdowns.get(entry.id, ()) if is_metric else ()
        return LoadSpec(
            entry,
            settings.timezone,
            settings.filters.get(entry.id, {}),
            entry.required_filter_attribute(settings.required_filter or adapted),
            tuple(name for name in breakdowns if policy.treatment(name).is_kept),
            policy,
            found.is_end_exclusive,
            found.selects_by_primary_timestamp,
            tuple(settings.periods) if is_metric else (),
            settings.week_starts_on,
        )

    def policy(self, record_id: str = "") -> FieldPolicy:
        """How the fields of a record are treated.

        Without an id: how filter attributes are treated, which all records share. An attribute is
        left out or hashed if any record's field of its name is.
        """
        settings, record = self.settings, (EVERY_RECORD, record_id)

        def named(setting: Mapping[str, Sequence[str]]) -> frozenset[str]:
            lists = (names for id_, names in setting.items() if not record_id or id_ in record)
            return frozenset(normalised(name) for names in lists for name in names)

        hashed = named(settings.hash_fields)
        is_limited = not settings.only_fields.keys().isdisjoint(record)
        return FieldPolicy(
            named(settings.exclude_fields),
            named(settings.only_fields) | hashed if is_limited else None,
            hashed,
            frozenset(map(normalised, settings.personal_fields)),
            self.hash_key,
        )

    def version(self, catalogue: Catalogue) -> str:
        """A digest of the catalogue, and of the settings about fields if there are any."""
        chosen = self.settings
        fields = [chosen.exclude_fields, chosen.only_fields, chosen.hash_fields]
        if not any(fields) and not chosen.personal_fields:
            return catalogue.version
        text = json.dumps([*fields, [*chosen.personal_fields]], sort_keys=True, default=list)
        return f"{catalogue.version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def kept_filters(self, catalogue: Catalogue) -> dict[str, str]:
        """The filter attributes whose values are stored, with the names of their tables."""
        policy, names = self.policy(), catalogue.filter_names
        return {name: names[name] for name in names if policy.treatment(name).is_kept}

    def unnamed_fields(self, catalogue: Catalogue) -> list[str]:
        """Fields that Dixa added, and that are not stored until a setting names them."""
        fields = {
            f"{id_}.{item}"
            for (kind, id_), items in catalogue.changed_items(*NEW_FIELD).items()
            for item in items
            if kind == "record" and self.policy(id_).treatment(item) is Treatment.NOT_ALLOWED
        }
        return sorted(fields)
