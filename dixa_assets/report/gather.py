"""Read the contents of a report from the warehouse."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from dixa_assets.checks.registry import Finding, Subject, findings_of, is_per_group, problem_of
from dixa_assets.errors import printable
from dixa_assets.model.catalogue import Entry, to_identifier
from dixa_assets.model.options import Options
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.model.values import PRESENCE
from dixa_assets.report.contents import (
    AGREES,
    DOUBTFUL,
    LOADED,
    MISSING,
    Breakdown,
    Chart,
    Latest,
    Page,
    Report,
    Values,
)
from dixa_assets.warehouse.catalogue import read_catalogue
from dixa_assets.warehouse.sql import Query, name_of

# The most days of a report.
DAYS = 91
# The latest value is compared with the same weekday of this many earlier weeks.
WEEKS = 8
# The most values of a breakdown that have a chart; the others are counted.
BREAKDOWN_VALUES = 12
# The order of measures. For a metric whose Count counts groups, Sum comes before Count.
HEADLINES = ("Percentage", "Average", PRESENCE, "Count", "Sum")
GROUP_HEADLINES = ("Percentage", "Average", PRESENCE, "Sum", "Count")
# Units of durations, which only descriptions name: "Seconds from ...", "... in seconds".
UNIT = re.compile(
    r"(?:^|\(|\bin (?=\w+\s*(?:[,.;:)]|$)))(milliseconds|seconds|minutes|hours)\b", re.I
)

VALUES = name_of(METRIC_VALUES)
# Values by metric, measure and status.
_Totals = defaultdict[str, dict[str, dict[str, Values]]]


def gather(query: Query, *, options: Options, now: datetime, days: int = DAYS) -> Report:
    """Read the contents of a report. A part that cannot be read is left out, and named.

    Args:
        query: Queries the warehouse.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report, with a zone.
        days: The most days that it shows. The last one is yesterday, or the last loaded day if the
            warehouse has none of these days.
    """
    yesterday = now.astimezone(ZoneInfo(options.timezone)).date() - timedelta(days=1)
    entries = list(read_catalogue(query).entries)
    found = query(
        "SELECT asset_key, min(partition_date) AS first, max(partition_date) AS last, "
        "max(loaded_at) AS loaded_at FROM dixa_catalogue.loads WHERE partition_date IS NOT NULL "
        "GROUP BY asset_key ORDER BY asset_key"
    )
    loads = {row.asset_key: row for row in found}
    if not loads:
        return Report(options.timezone, now, (), (), [entry for entry in entries if entry.is_live])
    last = max(row.last for row in found)
    end = max(last, yesterday) if last + timedelta(days=days) > yesterday else last
    first = max(min(row.first for row in found), end - timedelta(days=days - 1))
    shown = [first + timedelta(days=number) for number in range((end - first).days + 1)]

    failures: dict[str, str] = {}
    totals: _Totals = defaultdict(dict)
    unknown_shapes: Counter[str] = Counter()
    with _noted(failures, "the values of metrics"):
        totals, unknown_shapes = _totals(query, shown)
    listed = {entry.key for entry in entries}
    entries += [_unlisted(key, totals) for key in loads if key not in listed]
    charts = {entry.id: _charts(entry, totals[entry.id]) for entry in _metrics(entries)}
    breakdowns: defaultdict[str, list[Breakdown]] = defaultdict(list)
    with _noted(failures, "breakdowns"):
        breakdowns = _breakdowns(query, shown, _metrics(entries), charts)
    logs = _logs(query, shown)
    pages = []
    for entry in entries:
        if entry.key not in loads:
            continue
        is_metric, log = entry.kind == "metric", logs[entry.key]
        with _noted(failures, printable(f"{entry.kind} {entry.id}")):
            subject = Subject(options.spec(entry), entries, options, now)
            page = _page(
                subject,
                loads[entry.key],
                log,
                shown,
                findings_of(query, subject),
                charts=charts[entry.id] if is_metric else [_row_counts(log, shown)],
                breakdowns=breakdowns[entry.id] if is_metric else (),
                related=[
                    each
                    for each in entries
                    if each.key in loads
                    and each.kind != entry.kind
                    and each.id in entry.related_ids
                ],
                unknown_shapes=unknown_shapes[entry.id] if is_metric else 0,
            )
            pages.append(page)
    never = [each for each in entries if each.is_live and each.key not in loads]
    return Report(options.timezone, now, shown, pages, never, failures)


@contextmanager
def _noted(failures: dict[str, str], part: str) -> Iterator[None]:
    """Note an error under the name of the part of the report that it prevents."""
    try:
        yield
    except Exception as error:
        failures[part] = problem_of(error)


def _page(
    subject: Subject,
    load: Any,
    log: Mapping[str, Any],
    days: Sequence[date],
    findings: Mapping[str, Finding],
    **parts: Any,
) -> Page:
    filters = [row.filters for row in log.values()] or ["{}"]
    return Page(
        entry=subject.entry,
        findings=findings,
        latest=list(_latest(parts["charts"], days)),
        states=_states(days, log, findings),
        lags=[log[str(day)].lag if str(day) in log else None for day in days],
        first_day=load.first,
        last_day=load.last,
        loaded_at=load.loaded_at.astimezone(UTC),
        filters=dict(json.loads(filters[-1])),
        days_with_other_filters=sum(each != filters[-1] for each in filters),
        **parts,
    )


def unit_of(entry: Entry, measure: str) -> str:
    """The unit of a measure: `count`, `percent`, `number` or a unit of time."""
    if measure in ("Count", "Percentage"):
        return "count" if measure == "Count" else "percent"
    texts = [item.description for item in entry.aggregations if item.measure == measure]
    units = [
        found[1].lower() for text in (*texts, entry.description) if (found := UNIT.search(text))
    ]
    return units[0] if units else "number"


def _unlisted(key: str, metric_ids: Mapping[str, Any]) -> Entry:
    """An entry for loaded rows that are not in the database's catalogue yet."""
    schema, _, name = key.partition("/")
    if schema == "dixa_records":
        return Entry("record", name, name)
    return Entry("metric", {to_identifier(each): each for each in metric_ids}.get(name, name), name)


def _logs(query: Query, days: Sequence[date]) -> defaultdict[str, dict[str, Any]]:
    """The load log by asset and day: rows, rows outside, filters, days until the load."""
    found = query(
        "SELECT asset_key, partition_date::VARCHAR AS day, rows, rows_outside_window AS outside, "
        "filters, (epoch(loaded_at - interval_end) // 86400)::INTEGER AS lag "
        "FROM dixa_catalogue.loads WHERE partition_date BETWEEN ? AND ? ORDER BY partition_date",
        [days[0], days[-1]],
    )
    logs: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for row in found:
        logs[row.asset_key][row.day] = row
    return logs


def _totals(query: Query, days: Sequence[date]) -> tuple[_Totals, Counter[str]]:
    """Totals by metric, measure and status; the number of values of unknown shape by metric."""
    found = query(
        f"SELECT metric, partition_date::VARCHAR AS day, coalesce(measure, '') AS measure, "
        f"coalesce(status, '') AS status, value, aggregate IS NOT NULL AS is_unknown FROM {VALUES} "
        "WHERE partition_date BETWEEN ? AND ? AND breakdown_attribute IS NULL "
        "ORDER BY metric, measure, status",
        [days[0], days[-1]],
    )
    at = {str(day): number for number, day in enumerate(days)}
    totals: _Totals = defaultdict(dict)
    for row in found:
        if row.is_unknown:
            continue
        series = totals[row.metric].setdefault(row.measure, {})
        series.setdefault(row.status, [None] * len(days))[at[row.day]] = _number(row.value)
    return totals, Counter(row.metric for row in found if row.is_unknown)


def _charts(entry: Entry, totals: Mapping[str, Mapping[str, Values]]) -> list[Chart]:
    """A chart for each measure, in the order of `HEADLINES`."""
    order = GROUP_HEADLINES if is_per_group(entry) else HEADLINES
    return [
        Chart(measure, unit_of(entry, measure), totals[measure])
        for measure in sorted(
            totals, key=lambda each: order.index(each) if each in order else len(order)
        )
    ]


def _row_counts(log: Mapping[str, Any], days: Sequence[date]) -> Chart:
    rows = [log[str(day)].rows if str(day) in log else None for day in days]
    return Chart("Rows", "count", {"": rows})


def _breakdowns(
    query: Query,
    days: Sequence[date],
    metrics: Sequence[Entry],
    charts: Mapping[str, Sequence[Chart]],
) -> defaultdict[str, list[Breakdown]]:
    """The breakdowns of each metric's first measure: the values with the highest Count first."""
    found = query(
        f"""
        WITH wanted AS (SELECT unnest(?::VARCHAR[]) AS metric, unnest(?::VARCHAR[]) AS headline),
        parts AS (
            SELECT v.metric, breakdown_attribute AS attribute, breakdown_value AS part,
                   arg_max(breakdown_label, partition_date) AS label,
                   coalesce(sum(value) FILTER (measure = 'Count'), sum(abs(value))) AS weight
            FROM {VALUES} AS v JOIN wanted USING (metric)
            WHERE partition_date BETWEEN ? AND ? AND breakdown_attribute IS NOT NULL
              AND measure IN ('Count', headline)
            GROUP BY ALL
        ),
        ranked AS (
            SELECT *, count(*) OVER attributes AS of_all,
                   row_number() OVER (attributes ORDER BY weight DESC NULLS LAST, part) AS rank
            FROM parts WINDOW attributes AS (PARTITION BY metric, attribute)
        )
        SELECT v.metric, attribute, part, coalesce(label, part) AS label, of_all, headline,
               partition_date::VARCHAR AS day, coalesce(status, '') AS status, value
        FROM {VALUES} AS v JOIN wanted USING (metric)
        JOIN ranked ON ranked.metric = v.metric AND attribute = breakdown_attribute
          AND part = breakdown_value AND rank <= ?
        WHERE partition_date BETWEEN ? AND ? AND measure = headline
        ORDER BY v.metric, attribute, rank, status
        """,
        [
            [entry.id for entry in metrics if charts[entry.id]],
            [charts[entry.id][0].measure for entry in metrics if charts[entry.id]],
            *(days[0], days[-1], BREAKDOWN_VALUES, days[0], days[-1]),
        ],
    )
    at = {str(day): number for number, day in enumerate(days)}
    breakdowns: defaultdict[str, list[Breakdown]] = defaultdict(list)
    for (metric, attribute), rows in groupby(found, key=lambda row: (row.metric, row.attribute)):
        drawn: dict[str, Chart] = {}
        for row in rows:
            unit = charts[row.metric][0].unit
            new = Chart(row.headline, unit, {}, row.attribute, row.part, row.label)
            series: Any = drawn.setdefault(row.part, new).series
            series.setdefault(row.status, [None] * len(days))[at[row.day]] = _number(row.value)
        breakdowns[metric].append(Breakdown(attribute, list(drawn.values()), row.of_all))
    return breakdowns


def _latest(charts: Sequence[Chart], days: Sequence[date]) -> Iterator[Latest]:
    for chart in charts:
        for status, values in chart.series.items():
            at = max((n for n, value in enumerate(values) if value is not None), default=None)
            value = None if at is None else values[at]
            if at is None or value is None:
                continue
            weeks = range(at - 7, max(at - 7 * WEEKS, 0) - 1, -7)
            before = [each for each in (values[n] for n in weeks) if each is not None]
            usual = median(before) if before else None
            yield Latest(chart.measure, status, chart.unit, days[at], value, usual, len(before))


def _states(
    days: Sequence[date], log: Mapping[str, Any], findings: Mapping[str, Finding]
) -> list[int | None]:
    differs_by_day: dict[date, bool] = {}
    for finding in findings.values():
        differs_by_day |= finding.differs_by_day
    gaps = findings["completeness"].gaps
    states: list[int | None] = []
    for day in days:
        if str(day) in log:
            states.append({None: LOADED, False: AGREES, True: DOUBTFUL}[differs_by_day.get(day)])
        else:
            states.append(MISSING if any(a <= day <= b for a, b in gaps) else None)
    return states


def _metrics(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind == "metric"]


def _number(value: float | None) -> float | None:
    """A value as JSON: an integer if it is whole, None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else value
