"""The pages of the tab "Data": one for each loaded metric and record."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from dixa_assets.checks.checks import FRESH_FOR, STALE_AFTER
from dixa_assets.checks.registry import CHECKS, Finding, Subject, Verdict, checks_of, is_per_group
from dixa_assets.model.catalogue import Entry, to_identifier
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


@dataclass(frozen=True, slots=True)
class Latest:
    """A line's latest value, and the median of the same weekday in earlier weeks.

    `weeks` is the number of those weeks that have a value; `usual` is None if none has. `recent`
    has the last four weeks.
    """

    label: str
    measure: str
    unit: str
    day: date
    value: float
    usual: float | None
    weeks: int
    recent: Values


@dataclass(frozen=True, slots=True)
class Page:
    """A metric or record with its charts and the findings of its checks."""

    entry: Entry
    charts: Sequence[Chart]
    latest: Sequence[Latest]
    related: Sequence[Entry]
    findings: Mapping[str, Finding]
    first_day: date
    last_day: date
    loaded_at: datetime
    filters: Mapping[str, Sequence[str]]
    days_with_other_filters: int
    unknown_shapes: int
    silent_days: int
    freshness: str

    @property
    def title(self) -> str:
        """The entry's name in words, with its kind for a record."""
        return human(self.entry.id) + (" (record)" if self.entry.kind == "record" else "")

    @property
    def is_per_group(self) -> bool:
        """True if a Count counts groups, such as agents."""
        return self.entry.kind == "metric" and is_per_group(self.entry)

    @property
    def headline(self) -> Latest | None:
        """The latest value of the first measure; the largest, if it has several statuses."""
        measures = {chart.title for chart in self.charts[:1]}
        own = [each for each in self.latest if each.measure in measures]
        return max(own, key=lambda each: (each.day, each.value), default=None)

    @property
    def problems(self) -> dict[str, str]:
        """The failed checks with their reasons, the most serious first, and the freshness."""
        failed = {
            check.fault: found.reason
            for check in CHECKS
            if (found := self.findings.get(check.name)) and found.verdict is Verdict.FAILED
        }
        if self.freshness in ("late", "stale"):
            failed[self.freshness] = "Not loaded for more than a day: the numbers are old."
        return failed

    @property
    def dot(self) -> tuple[str, str]:
        """The state of the page in one word, and the reason for it."""
        if self.problems:
            state = "bad" if self.freshness == "stale" else "warn"
            return state, "; ".join(self.problems)
        passed = sum(found.verdict is Verdict.PASSED for found in self.findings.values())
        if not self.entry.is_live:
            return "none", "retired"
        return ("good", f"fresh, {passed} checks passed") if passed else ("none", "no check yet")


def shown_days(loaded: Mapping[str, Any], now: datetime, zone: str, most: int) -> list[date]:
    """The days of the report, at most `most`.

    The last one is yesterday, or the last loaded day if the warehouse has none of these days.
    """
    if not loaded:
        return []
    yesterday = now.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    last = max(row.last for row in loaded.values())
    end = max(last, yesterday) if last + timedelta(days=most) > yesterday else last
    first = max(min(row.first for row in loaded.values()), end - timedelta(days=most - 1))
    return [first + timedelta(days=number) for number in range((end - first).days + 1)]


class Pages:
    """Makes the page of each metric and record.

    Args:
        query: Queries the warehouse.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report.
        loaded: The first and the last loaded day of each asset, by its key.
        days: The days of the report.
        marks: Texts over some days, by their place.
    """

    def __init__(
        self,
        query: Query,
        options: Options,
        now: datetime,
        loaded: Mapping[str, Any],
        days: Sequence[date],
        marks: Mapping[int, str],
    ) -> None:
        self.query, self.options, self.now = query, options, now
        self.loaded, self.days, self.marks = loaded, days, marks
        self.axis = {"day": [str(day) for day in days]}
        self.texts = [f"{day.day} {day:%b}" for day in days]
        self.entries = list(read_catalogue(query).entries)
        self.logs = queries.load_log(query, days)
        self.totals, self.unknown_shapes = queries.totals(query, days)
        listed = {entry.key for entry in self.entries}
        self.entries += [_unlisted(key, self.totals) for key in loaded if key not in listed]

    def page(self, entry: Entry) -> Page:
        """The page of an entry."""
        subject = Subject(self.options.spec(entry), self.entries, self.options, self.now)
        findings = {each.name: each.look(self.query, subject) for each in checks_of(subject)}
        load, log = self.loaded[entry.key], self.logs.get(entry.key, {})
        charts, is_metric = (
            self._charts(entry, log, findings["completeness"]),
            entry.kind == "metric",
        )
        first = [*charts[0].series.values()] if charts else []
        filters = [row.filters for row in log.values()] or ["{}"]
        return Page(
            entry=entry,
            charts=charts,
            latest=[
                latest
                for chart in charts
                for label, values in chart.series.items()
                for latest in self._latest(label, values, chart)
            ],
            related=[
                other
                for other in self.entries
                if other.key in self.loaded
                and other.kind != entry.kind
                and other.id in entry.related_ids
            ],
            findings=findings,
            first_day=load.first,
            last_day=load.last,
            loaded_at=load.loaded_at,
            filters=json.loads(filters[-1]),
            days_with_other_filters=sum(each != filters[-1] for each in filters),
            unknown_shapes=self.unknown_shapes[entry.id] if is_metric else 0,
            silent_days=sum(
                day in log and all(values[at] is None for values in first)
                for at, day in enumerate(self.days)
            ),
            freshness=_freshness(entry, self.now - load.loaded_at),
        )

    def _charts(self, entry: Entry, log: Mapping[date, Any], complete: Finding) -> list[Chart]:
        """A chart for each measure, in the order of `HEADLINES`; a record's rows by day."""
        if entry.kind == "record":
            source, where = name_of(LOADS), f"asset_key = {literal(entry.key)}"
            lines = {"Rows": {"rows": {day: row.rows for day, row in log.items()}}}
        else:
            source, where = f"{quote(entry.schema)}.{quote(entry.name)}", "true"
            found = self.totals.get(entry.id, {})
            lines = {measure: found[measure] for measure in _in_order(entry, found)}
        charts = []
        for title, values in lines.items():
            names = {status: status or title or "value" for status in values}
            sql = {
                name: "sum(rows)" if entry.kind == "record" else queries.total_of(title, status)
                for status, name in names.items()
            }
            columns = {
                name: [number(values[status].get(day)) for day in self.days]
                for status, name in names.items()
            }
            figure = Figure(
                f"{entry.name}-{title.lower()}",
                queries.by_day(source, sql, self.days, where),
                self.axis | columns,
            )
            charts.append(
                Chart(
                    title=title,
                    unit=unit_of(entry, title),
                    figure=figure,
                    lines={name: name for name in columns},
                    texts=self.texts,
                    missing=frozenset(
                        at
                        for at, day in enumerate(self.days)
                        if any(first <= day <= last for first, last in complete.gaps)
                    ),
                    marks=self.marks,
                )
            )
        return charts

    def _latest(self, label: str, values: Values, chart: Chart) -> Iterator[Latest]:
        for at in reversed(range(len(values))):
            if (value := values[at]) is not None:
                weeks = range(at - 7, max(at - 7 * WEEKS, 0) - 1, -7)
                before = [each for each in (values[week] for week in weeks) if each is not None]
                usual, day, recent = median(before) if before else None, self.days[at], values[-28:]
                yield Latest(label, chart.title, chart.unit, day, value, usual, len(before), recent)
                return


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
    """The measures in the order of `HEADLINES`."""
    order = GROUP_HEADLINES if is_per_group(entry) else HEADLINES
    return sorted(measures, key=lambda each: order.index(each) if each in order else len(order))


def _freshness(entry: Entry, age: timedelta) -> str:
    """`fresh`, `late` or `stale`, as in Dagster's freshness policy; or `retired`."""
    if not entry.is_live:
        return "retired"
    return "fresh" if age <= FRESH_FOR else "late" if age <= STALE_AFTER else "stale"


def _unlisted(key: str, metric_ids: Iterable[str]) -> Entry:
    """An entry for loaded rows that are not in the database's catalogue yet."""
    schema, _, name = key.partition("/")
    if schema == "dixa_records":
        return Entry("record", name, name)
    return Entry("metric", {to_identifier(each): each for each in metric_ids}.get(name, name), name)
