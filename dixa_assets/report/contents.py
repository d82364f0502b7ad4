"""The contents of a report: days, pages, charts and concerns.

A list of values has one value for each day of the report: None for a day without a value.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import CHECKS, Check, Finding, Verdict, is_per_group
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day

# The states of a day. A day before the first expected day has None.
MISSING, LOADED, AGREES, DOUBTFUL = range(4)

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A measure by day, as a total or for one value of a breakdown.

    `series` has its values by presence status, which is empty for other measures.
    """

    measure: str
    unit: str
    series: Mapping[str, Values]
    attribute: str = ""
    value: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Charts of an attribute's largest values, and the number of all values."""

    attribute: str
    charts: Sequence[Chart]
    values: int


@dataclass(frozen=True, slots=True)
class Latest:
    """A measure's latest value, and the median of the same weekday in earlier weeks.

    `weeks` is the number of those weeks that have a value; `usual` is None if none has.
    """

    measure: str
    status: str
    unit: str
    day: date
    value: float
    usual: float | None
    weeks: int


@dataclass(frozen=True, slots=True)
class Page:
    """A metric or record.

    `states` has the state of each day, `lags` the whole days from a day's end to its latest load.
    """

    entry: Entry
    charts: Sequence[Chart]
    latest: Sequence[Latest]
    breakdowns: Sequence[Breakdown]
    related: Sequence[Entry]
    findings: Mapping[str, Finding]
    states: Sequence[int | None]
    lags: Sequence[int | None]
    first_day: date
    last_day: date
    loaded_at: datetime
    filters: Mapping[str, Sequence[str]]
    days_with_other_filters: int
    unknown_shapes: int

    @property
    def title(self) -> str:
        """The entry's id, with its kind for a record: a metric may have the same id."""
        return self.entry.id + (" (record)" if self.entry.kind == "record" else "")

    @property
    def is_per_group(self) -> bool:
        """True if a Count counts groups, such as agents."""
        return self.entry.kind == "metric" and is_per_group(self.entry)

    @property
    def headline(self) -> Latest | None:
        """The latest value of the first measure; the largest, if it has several statuses."""
        measures = [chart.measure for chart in self.charts[:1]]
        own = [each for each in self.latest if each.measure in measures]
        return max(own, key=lambda each: (each.day, each.value), default=None)

    @property
    def problems(self) -> list[Check]:
        """The failed checks, the most serious first."""
        return [
            check
            for check in CHECKS
            if (found := self.findings.get(check.name)) and found.verdict is Verdict.FAILED
        ]

    def count(self, verdict: str) -> int:
        """The number of checks with a verdict, by the verdict's name."""
        return sum(found.verdict.value == verdict for found in self.findings.values())

    @property
    def silent_days(self) -> int:
        """The number of loaded days for which Dixa returned no value of the first measure."""
        series = [values for chart in self.charts[:1] for values in chart.series.values()]
        return sum(
            state not in (None, MISSING) and all(values[at] is None for values in series)
            for at, state in enumerate(self.states)
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The contents of a report: its days, a page for each loaded entry, the other entries.

    `failures` has the parts that an error left out, each with the reason.
    """

    timezone: str
    now: datetime
    days: Sequence[date]
    pages: Sequence[Page]
    never_loaded: Sequence[Entry] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def odd_days(self) -> dict[str, float]:
        """The hours of each day that does not have 24 hours."""
        hours = {str(day): Day.of(day, self.timezone).hours for day in self.days}
        return {day: length for day, length in hours.items() if length != 24}

    @property
    def concerns(self) -> dict[str, list[Page]]:
        """The reasons why numbers may be wrong or missing, each with its pages."""
        concerns: defaultdict[str, list[Page]] = defaultdict(list)
        for page in self.pages:
            if self.freshness(page) in ("late", "stale"):
                concerns["Not loaded for more than a day: the numbers are old."].append(page)
            if page.count("broken"):
                concerns["Checks could not run: the numbers are not checked."].append(page)
            for check in page.problems:
                if check.is_serious:
                    concerns[page.findings[check.name].reason].append(page)
        return dict(concerns)

    def freshness(self, page: Page) -> str:
        """`fresh`, `late` or `stale`, as in Dagster's freshness policy; or `retired`."""
        if not page.entry.is_live:
            return "retired"
        age = self.now - page.loaded_at
        if age <= FRESH_FOR:
            return "fresh"
        return "late" if age <= STALE_AFTER else "stale"
