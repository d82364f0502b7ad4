"""What a check is, what it looks at and what it says; the list of all checks."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

from dixa_assets.model.catalogue import Entry, Kind
from dixa_assets.model.days import local_day
from dixa_assets.warehouse.sql import Query

# Percentages that can be computed from the record's value, by the catalogue's own formula.
SHARES = {"csat": "value >= 4"}


class Verdict(Enum):
    """What a check says of the data. `OPEN` means that there was nothing to look at."""

    PASSED = "passed"
    FAILED = "failed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    `table` holds the cases behind the verdict, a row each. `gaps` are the first and last day of
    each stretch that is not loaded. `doubts` has the days that were compared, and whether something
    differs.
    """

    verdict: Verdict
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()
    gaps: Sequence[tuple[date, date]] = ()
    doubts: Mapping[date, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """How loads are configured, as far as checks must know.

    `exclude_fields` are, per record id, fields that are not stored; `*` stands for every record.
    `required_filters` are, per kind of entry, the attribute whose values are all sent where Dixa
    insists on a filter.
    """

    timezone: str
    start_date: str = "2000-01-01"
    history_days: int = 0
    exclude_fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    required_filters: Mapping[Kind, str] = field(default_factory=dict)

    def excluded_fields(self, entry: Entry) -> frozenset[str]:
        """The fields of a record that are not stored."""
        return frozenset(
            (*self.exclude_fields.get("*", ()), *self.exclude_fields.get(entry.id, ()))
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check looks at: a metric or record, among all of the catalogue, at an instant."""

    entry: Entry
    entries: Sequence[Entry]
    setup: Setup
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def days(self, first_loaded: date | None) -> list[date]:
        """The days that should be loaded.

        They begin with the first one that is, or with the automatic history before the entry was
        first seen, whichever is earlier, and end yesterday or before the entry was retired.
        """
        zone = self.setup.timezone
        start = date.fromisoformat(self.setup.start_date)
        first = first_loaded or date.max
        if self.entry.first_seen:
            history = timedelta(days=self.setup.history_days)
            first = min(first, local_day(self.entry.first_seen, zone) - history)
        retired = self.entry.retired_at
        end = local_day(retired, zone) if retired else self.now.astimezone(ZoneInfo(zone)).date()
        first = max(first, start)
        return [first + timedelta(days=number) for number in range((end - first).days)]

    @property
    def only_with(self) -> str:
        """The attribute without which a row is not asked for; empty if all rows are."""
        preferred = self.setup.required_filters.get(self.entry.kind, "")
        return self.entry.compulsory_filter(preferred)

    @property
    def record(self) -> Entry | None:
        """The record whose rows a metric can be checked against, if there is exactly one.

        Never for a per-group metric, whose Count counts groups, nor for one that has no measure
        which rows could give.
        """
        metric = self.entry
        if metric.kind != "metric" or is_per_group(metric):
            return None
        measures = {item.measure for item in metric.aggregations}
        if not measures & {"Count", "Average"} and metric.id not in SHARES:
            return None
        records = [
            entry
            for entry in self.entries
            if entry.kind == "record" and entry.id in metric.related_ids
        ]
        return records[0] if len(records) == 1 else None


Look = Callable[[Query, Subject], Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a metric or record.

    Args:
        name: The asset check's name.
        description: What holds when it passes.
        fault: What a failure means for who reads the numbers.
        is_grave: Whether a failure bears on the numbers themselves.
        applies: Whether the question makes sense for a subject.
        look: Asks the warehouse.
    """

    name: str
    description: str
    fault: str
    is_grave: bool
    applies: Callable[[Subject], bool]
    look: Look


CHECKS: list[Check] = []
"""Every check there is, the gravest first: as they stand below."""


def checks_of(subject: Subject) -> list[Check]:
    """The checks that make sense for a subject."""
    return [check for check in CHECKS if check.applies(subject)]


def check(
    name: str, *, fault: str, is_grave: bool, of: Callable[[Subject], bool]
) -> Callable[[Look], Look]:
    """Make a function a check; its docstring is the check's description."""

    def register(look: Look) -> Look:
        CHECKS.append(Check(name, look.__doc__ or "", fault, is_grave, of, look))
        return look

    return register


def is_per_group(entry: Entry) -> bool:
    """Whether a metric's Count counts groups, such as agents, and not what happened to them."""
    words = f"{entry.id.replace('_', ' ')} {entry.description}".lower()
    return (
        re.search(r"\b(per|for each) (agent|queue|team|conversation|customer)\b", words) is not None
    )
