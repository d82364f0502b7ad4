"""What a report shows: days, pages, charts, and what is to be looked at first.

Lists of values go by the days of the report, and None is a day without a value: absent is never 0.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import CHECKS, Check, Finding, Verdict, is_per_group
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Window

# The state of a day; None for a day before the first expected one.
MISSING, LOADED, AGREES, DOUBTFUL = range(4)

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """One measure by day, as a total or for one value of a breakdown.

    `series` has its values by presence status, '' where there is none.
    """

    measure: str
    unit: str
    series: Mapping[str, Values]
    attribute: str = ""
    value: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Charts of an attribute's largest values, and how many values there are in all."""

    attribute: str
    charts: Sequence[Chart]
    values: int


@dataclass(frozen=True, slots=True)
class Latest:
    """A measure's latest value beside the median of the same weekday in the weeks before.

    `usual` is None where none of those weeks has a value; `weeks` says how many have.
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
    """One metric or record.

    `states` are those of the days, `lags` the whole days from a day's end to its latest load.
    `doubts` has the days with something to compare, and whether it differs.
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
        """The entry's id, with its kind where a metric may have the same."""
        return self.entry.id + (" (record)" if self.entry.kind == "record" else "")

    @property
    def is_per_group(self) -> bool:
        """Whether a Count counts groups, such as agents."""
        return self.entry.kind == "metric" and is_per_group(self.entry)

    @property
    def headline(self) -> Latest | None:
        """The latest value of the first measure; of several statuses, the largest."""
        measures = [chart.measure for chart in self.charts[:1]]
        own = [each for each in self.latest if each.measure in measures]
        return max(own, key=lambda each: (each.day, each.value), default=None)

    @property
    def problems(self) -> list[Check]:
        """The checks that found something wrong, the gravest first."""
        return [
            check
            for check in CHECKS
            if (found := self.findings.get(check.name)) and found.verdict is Verdict.FAILED
        ]

    def count(self, verdict: str) -> int:
        """How many checks have a verdict, by its name."""
        return sum(found.verdict.value == verdict for found in self.findings.values())

    @property
    def silent_days(self) -> int:
        """Loaded days for which Dixa gave no value of the first measure."""
        series = [values for chart in self.charts[:1] for values in chart.series.values()]
        return sum(
            state not in (None, MISSING) and all(values[at] is None for values in series)
            for at, state in enumerate(self.states)
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report shows: the days, a page per loaded entry, the entries never loaded."""

    timezone: str
    now: datetime
    days: Sequence[date]
    pages: Sequence[Page]
    never_loaded: Sequence[Entry] = ()

    @property
    def odd_days(self) -> dict[str, float]:
        """The hours of the days on which the clocks change."""
        hours = {str(day): Window.of_day(day, self.timezone).hours for day in self.days}
        return {day: length for day, length in hours.items() if length != 24}

    @property
    def concerns(self) -> dict[str, list[Page]]:
        """What bears on the numbers themselves, in words, with the pages it is found on."""
        concerns: defaultdict[str, list[Page]] = defaultdict(list)
        for page in self.pages:
            if self.freshness(page) in ("late", "stale"):
                concerns["Not loaded for more than a day: the numbers are old."].append(page)
            for check in page.problems:
                if check.is_grave:
                    concerns[page.findings[check.name].reason].append(page)
        return dict(concerns)

    def freshness(self, page: Page) -> str:
        """How Dagster's freshness policy sees it: fresh, late or stale; or that it is retired."""
        if not page.entry.is_live:
            return "retired"
        age = self.now - page.loaded_at
        if age <= FRESH_FOR:
            return "fresh"
        return "late" if age <= STALE_AFTER else "stale"
