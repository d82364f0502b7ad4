"""The types of checks, and `CHECKS`, the list of all of them."""

import inspect
import re
import textwrap
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from dixa_assets.errors import DixaAssetsError, printable
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import date_range, local_date, to_runs
from dixa_assets.model.options import LoadSpec, Options
from dixa_assets.warehouse.signals import Interrupted
from dixa_assets.warehouse.sql import Query

# Metrics whose percentage can be computed from the record's value, with the condition from the
# catalogue.
SHARES = {"csat": "value >= 4"}
# A finding shows at most this many cases, and a reason of this many characters.
MOST_CASES = 50
LONGEST_REASON = 1000


class Verdict(Enum):
    """The result of a check.

    `NO_DATA` means that the check cannot run yet, `BROKEN` that it raised an error.
    """

    PASSED = "passed"
    FAILED = "failed"
    NO_DATA = "open"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, with its reason.

    Attributes:
        verdict: The result.
        reason: The result in words.
        figures: The numbers behind it, by name.
        cases: Examples of the failure, one row each.
        gaps: The first and the last day of each range of days that are not loaded.
        differs_by_day: For each compared day, True if the data differ.
    """

    verdict: Verdict
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    cases: Sequence[Mapping[str, Any]] = ()
    gaps: Sequence[tuple[date, date]] = ()
    differs_by_day: Mapping[date, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """The metric or record that is checked.

    Args:
        spec: How it is loaded.
        entries: All entries of the catalogue, by kind and id.
        options: How all entries are loaded.
        now: The instant of the check.
    """

    spec: LoadSpec
    entries: Mapping[tuple[str, str], Entry]
    options: Options
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def entry(self) -> Entry:
        """The metric or record itself."""
        return self.spec.entry

    @property
    def related(self) -> list[Entry]:
        """The records of a metric or the metrics of a record, by id."""
        kind = "record" if self.entry.kind == "metric" else "metric"
        keys = [(kind, id_) for id_ in sorted({*self.entry.related_ids})]
        return [self.entries[key] for key in keys if key in self.entries]

    def days(self, loaded: Collection[date]) -> list[date]:
        """The days that somebody asked for, sorted.

        The automatic history to yesterday, or to the day before the entry was retired; every loaded
        day; and each gap before the automatic history that is not longer than the loaded days
        before it. Nobody asked for the days of a longer gap.
        """
        zone, settings = self.spec.timezone, self.options.settings
        retired = self.entry.retired_at
        end = local_date(retired, zone) if retired else self.now.astimezone(ZoneInfo(zone)).date()
        kept = settings.first_kept_day(self.entry, self.now)
        loaded = [day for day in loaded if day >= kept]
        first = min(loaded, default=end)
        if self.entry.first_seen:
            history = timedelta(days=settings.history_days)
            first = local_date(self.entry.first_seen, zone) - history
        first = max(first, date.fromisoformat(settings.start_date), kept)
        one = timedelta(days=1)
        asked = {*date_range(first, end - one), *loaded}
        blocks = to_runs(sorted(day for day in loaded if day < first))
        for (start, last), (later, _) in pairwise([*blocks, (first, first)]):
            if later - last - one <= last - start + one:
                asked |= {*date_range(last + one, later - one)}
        return sorted(asked)

    @property
    def record(self) -> Entry | None:
        """The record whose rows a metric is compared with; None if a comparison is impossible.

        The Count of a per-group metric counts groups, not rows. Other metrics have no measure that
        can be computed from rows.
        """
        metric = self.entry
        if metric.kind != "metric" or is_per_group(metric):
            return None
        measures = {item.measure for item in metric.aggregations}
        if not measures & {"Count", "Average"} and metric.id not in SHARES:
            return None
        return self.related[0] if len(self.related) == 1 else None


Look = Callable[[Query, Subject], Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """A question about the data of a metric or record.

    Args:
        name: The name of the asset check.
        description: The statement that is true if the check passes.
        fault: The failure in a few words, for the report.
        is_serious: True if a failure means that numbers are wrong or missing.
        applies: Returns True if the subject has this check.
        look: Queries the warehouse and returns the finding.
    """

    name: str
    description: str
    fault: str
    is_serious: bool
    applies: Callable[[Subject], bool]
    look: Look


CHECKS: list[Check] = []
"""All checks in the order of `checks.py`, the most serious first."""


def checks_of(subject: Subject) -> list[Check]:
    """The checks of a subject."""
    return [check for check in CHECKS if check.applies(subject)]


def findings_of(query: Query, subject: Subject) -> dict[str, Finding]:
    """The finding of each check of a subject, by name. A check that raises an error has one too."""
    findings = {}
    for check in checks_of(subject):
        try:
            found = check.look(query, subject)
        except Interrupted:
            raise
        except Exception as error:
            found = Finding(Verdict.BROKEN, f"The check could not run: {problem_of(error)}")
        reason = textwrap.shorten(printable(found.reason), LONGEST_REASON, placeholder=" …")
        findings[check.name] = replace(found, reason=reason, cases=found.cases[:MOST_CASES])
    return findings


def problem_of(error: Exception) -> str:
    """An error in words. The message of another error than ours may quote a customer's data."""
    if isinstance(error, DixaAssetsError):
        return str(error)
    *_, last = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {last[0].f_code.co_qualname}, line {last[1]}."


def check(
    name: str, *, fault: str, is_serious: bool, applies: Callable[[Subject], bool]
) -> Callable[[Look], Look]:
    """Register a function as a check. Its docstring is the check's description."""

    def register(look: Look) -> Look:
        CHECKS.append(Check(name, inspect.getdoc(look) or "", fault, is_serious, applies, look))
        return look

    return register


def is_per_group(entry: Entry) -> bool:
    """True if a metric's Count counts groups, such as agents, instead of events."""
    words = f"{entry.id.replace('_', ' ')} {entry.description}".lower()
    return (
        re.search(r"\b(per|for each) (agent|queue|team|conversation|customer)\b", words) is not None
    )
