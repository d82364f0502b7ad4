"""The pages of the tab "Data": one for each loaded metric and record."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from statistics import median
from typing import Any, NamedTuple

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import CHECKS, Finding, Subject, Verdict, findings_of, is_per_group
from dixa_assets.model.catalogue import Entry, by_id, to_identifier
from dixa_assets.model.options import Options
from dixa_assets.model.tables import LOADS
from dixa_assets.model.values import PRESENCE
from dixa_assets.report import queries
from dixa_assets.report.charts import Chart, Figure, Values, number
from dixa_assets.report.formats import human
from dixa_assets.warehouse.catalogue import read_catalogue
from dixa_assets.warehouse.sql import Query, literal, name_of, quote

# The latest value is compared with the same weekday of this many earlier weeks.
WEEKS = 8
# The order of measures. For a metric whose Count counts groups, Sum comes before Count.
HEADLINES = ("Percentage", "Average", PRESENCE, "Count", "Sum")
GROUP_HEADLINES = ("Percentage", "Average", PRESENCE, "Sum", "Count")
# Units of durations, which only descriptions name: "Seconds from ...", "... in seconds".
UNIT = re.compile(
    r"(?:^|\(|\bin (?=\w+\s*(?:[,.;:)]|$)))(milliseconds|seconds|minutes|hours)\b", re.I
)


class Latest(NamedTuple):
    """A line's latest value, and the median of the same weekday in earlier weeks.

    `weeks` is the number of those weeks that have a value; `usual` is None if none has. `recent`
    has the last four weeks.
    """

    label: str
    unit: str
    day: date
    value: float
    usual: float | None
    weeks: int
    recent: Values


@dataclass(frozen=True, slots=True)
class Page:
    """A metric or record with its charts and the findings of its checks.

    `freshness` is `fresh`, `late` or `stale`, as in Dagster's freshness policy, or `retired`.
    `silent_days` are loaded days without a value.
    """

    entry: Entry
    charts: Sequence[Chart]
    latest: Sequence[Latest]
    findings: Mapping[str, Finding]
    load: Any
    filters: Mapping[str, Sequence[str]]
    days_with_other_filters: int
    silent_days: int
    freshness: str

    @property
    def title(self) -> str:
        """The entry's name in words, with its kind for a record."""
        return human(self.entry.id) + (" (record)" if self.entry.kind == "record" else "")

    @property
    def link(self) -> str:
        """The part after '#' of the page's address."""
        return self.entry.name if self.entry.kind == "metric" else f"records.{self.entry.name}"

    @property
    def is_per_group(self) -> bool:
        """True if a Count counts groups, such as agents."""
        return self.entry.kind == "metric" and is_per_group(self.entry)

    @property
    def headline(self) -> Latest | None:
        """The latest value of the first measure; the largest, if it has several statuses."""
        lines = {label for chart in self.charts[:1] for label in chart.lines.values()}
        own = (each for each in self.latest if each.label in lines)
        return max(own, key=lambda each: (each.day, each.value), default=None)

    @property
    def problems(self) -> dict[str, str]:
        """The faults of the data, the most serious first, each with its reason."""
        failed = {
            check.fault: found.reason
            for check in CHECKS
            if (found := self.findings.get(check.name)) and found.verdict is Verdict.FAILED
        }
        if self.freshness in ("late", "stale"):
            failed["old numbers"] = "The latest load is more than a day ago."
        if broken := [e.reason for e in self.findings.values() if e.verdict is Verdict.BROKEN]:
            failed["checks could not run"] = broken[0]
        return failed

    @property
    def dot(self) -> tuple[str, str]:
        """The state as a class of the page, and in words."""
        passed = sum(found.verdict is Verdict.PASSED for found in self.findings.values())
        if self.problems:
            return "bad" if self.freshness == "stale" else "warn", "; ".join(self.problems)
        if passed and self.entry.is_live:
            return "good", f"fresh, {passed} of {len(self.findings)} checks passed"
        return "none", "no check has data yet" if self.entry.is_live else "retired"


class Pages:
    """Makes pages about `days`; `loaded` has the first and last day of each asset.

    `marks` are texts over some days, by their place.
    """

    def __init__(
        self,
        query: Query,
        options: Options,
        now: datetime,
        loaded: Mapping[str, Any],
        days: Sequence[date],
        marks: Mapping[int, str],
        totals: queries.Totals,
    ) -> None:
        self.query, self.options, self.now = query, options, now
        self.loaded, self.days, self.marks = loaded, days, marks
        self.axis = [str(day) for day in days]
        self.logs, self.totals = queries.load_log(query, days), totals
        self.entries = list(read_catalogue(query).entries)
        listed = {entry.key for entry in self.entries}
        self.entries += [_unlisted(key, totals) for key in loaded if key not in listed]
        # If both have an id, the catalogue's entry is the related one.
        self._by_id = by_id(reversed(self.entries))

    def page(self, entry: Entry) -> Page:
        """The page of an entry."""
        subject = Subject(self.options.spec(entry), self._by_id, self.options, self.now)
        findings = findings_of(self.query, subject)
        load, log = self.loaded[entry.key], self.logs.get(entry.key, {})
        charts = list(self._charts(entry, log, findings["completeness"].gaps))
        first = [*charts[0].series.values()] if charts else []
        filters = [row.filters for row in log.values()] or ["{}"]
        age = self.now - load.loaded_at
        freshness = "fresh" if age <= FRESH_FOR else "late" if age <= STALE_AFTER else "stale"
        return Page(
            entry=entry,
            charts=charts,
            latest=[
                latest
                for chart in charts
                for label, values in chart.series.items()
                if (latest := self._latest(label, values, chart.unit))
            ],
            findings=findings,
            load=load,
            filters=json.loads(filters[-1]),
            days_with_other_filters=sum(each != filters[-1] for each in filters),
            silent_days=sum(
                day in log and all(values[at] is None for values in first)
                for at, day in enumerate(self.days)
            ),
            freshness=freshness if entry.is_live else "retired",
        )

    def _charts(
        self, entry: Entry, log: Mapping[date, Any], gaps: Sequence[tuple[date, date]]
    ) -> Iterator[Chart]:
        """A chart for each measure, in the order of `HEADLINES`; a record's rows by day."""
        is_record, totals = entry.kind == "record", self.totals.get(entry.id, {})
        source, where = f"{quote(entry.schema)}.{quote(entry.name)}", "true"
        if is_record:
            source, where = name_of(LOADS), f"asset_key = {literal(entry.key)}"
            totals = {"Rows": {"": {day: row.rows for day, row in log.items()}}}
        days = enumerate(self.days)
        missing = frozenset(at for at, day in days if any(a <= day <= b for a, b in gaps))
        for measure in _in_order(entry, totals):
            statuses = {status or measure or "value": status for status in totals[measure]}
            sql = {
                name: "sum(rows)" if is_record else queries.total_of(measure, status)
                for name, status in statuses.items()
            }
            columns = {
                name: [number(totals[measure][status].get(day)) for day in self.days]
                for name, status in statuses.items()
            }
            statement = queries.by_day(source, sql, self.days, where)
            yield Chart(
                title=measure,
                unit=unit_of(entry, measure),
                figure=Figure(f"{entry.name}-{measure}", statement, {"day": self.axis, **columns}),
                lines={name: name for name in columns},
                starts=self.days,
                missing=missing,
                marks=self.marks,
            )

    def _latest(self, label: str, values: Values, unit: str) -> Latest | None:
        for at in reversed(range(len(values))):
            if (value := values[at]) is not None:
                weeks = range(at - 7, max(at - 7 * WEEKS, 0) - 1, -7)
                before = [each for each in (values[week] for week in weeks) if each is not None]
                usual, day = median(before) if before else None, self.days[at]
                return Latest(label, unit, day, value, usual, len(before), values[-28:])
        return None


def unit_of(entry: Entry, measure: str) -> str:
    """The unit of a measure: `count`, `percent`, `number` or a unit of time."""
    if measure in ("Count", "Rows", "Percentage"):
        return "percent" if measure == "Percentage" else "count"
    texts = [item.description for item in entry.aggregations if item.measure == measure]
    units = [
        found[1].lower() for text in (*texts, entry.description) if (found := UNIT.search(text))
    ]
    return units[0] if units else "number"


def _in_order(entry: Entry, measures: Iterable[str]) -> list[str]:
    order = GROUP_HEADLINES if is_per_group(entry) else HEADLINES
    return sorted(measures, key=lambda each: order.index(each) if each in order else len(order))


def _unlisted(key: str, metric_ids: Iterable[str]) -> Entry:
    """An entry for loaded rows that are not in the database's catalogue yet."""
    schema, _, name = key.partition("/")
    if schema == "dixa_records":
        return Entry("record", name, name)
    return Entry("metric", {to_identifier(each): each for each in metric_ids}.get(name, name), name)
