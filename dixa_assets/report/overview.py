"""The first tab: four themes, what moved, and tables of queues, channels, agents and topics."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from dixa_assets.report.charts import Chart, Figure
from dixa_assets.report.compare import EARLIER, Compared, Measure, Periods, next_start
from dixa_assets.report.queries import Marts

CSAT = Measure("csat", "Satisfied (CSAT)", "percent", 1, "answers", "answers", ripens=True)
TYPICAL = Measure("first_response_median", "First response, typical", "seconds", -1)
SLOW = Measure("first_response_p90", "One in ten waits longer than", "seconds", -1)
WITHIN = Measure(
    "within_sla", "Within the promised time", "percent", 1, "first_responses", "responses"
)
CREATED, CLOSED = Measure("created", "Came in"), Measure("closed", "Closed")
OPEN = Measure("still_open", "Still open at the end", better=-1)
HANDLING = Measure("handling_median", "Handling time, typical", "seconds", -1)
ACCEPTED = Measure("acceptance", "Offers accepted", "percent", 1, "offers", "offers")
HOURS = Measure("working_hours", "Hours at work", "hours worked")
THEMES = {
    "Satisfaction": (
        CSAT,
        Measure("answers", "Answers", ripens=True),
        Measure("nps", "Would recommend (NPS)", "number", 1, ripens=True),
    ),
    "Speed": (TYPICAL, SLOW, WITHIN),
    "Volume": (CREATED, CLOSED, OPEN),
    "People": (Measure("agents", "People at work"), HOURS, ACCEPTED),
}
# The tables of parts: mart, column of the name, measures.
PARTS = {
    "Queues": ("queues_weekly", "queue", (CREATED, CLOSED, TYPICAL, WITHIN, CSAT)),
    "Channels": ("channels_weekly", "channel", (CREATED, CLOSED, TYPICAL, SLOW, CSAT)),
    "Agents": (
        "agents_weekly",
        "agent",
        (Measure("closed_by_agent", "Closed"), HOURS, ACCEPTED, HANDLING, CSAT),
    ),
    "Topics": ("tags_weekly", "tag", (Measure("conversations", "Conversations"),)),
}
CHARTS = {
    "Satisfied customers": (CSAT,),
    "First response": (TYPICAL, SLOW),
    "Conversations": (CREATED, CLOSED, OPEN),
    "Hours at work": (HOURS,),
}
BAND = ("csat_low", "csat_high")
HEAT_MAPS = {
    "Arrivals per hour": ("hours", "created"),
    "People at work": ("staffing", "working_hours"),
}
MEASURES = [measure for measures in THEMES.values() for measure in measures]
# The most changes that are listed.
MOST_MOVED = 8


@dataclass(frozen=True, slots=True)
class Screen:
    """The first screen for days, weeks or months.

    Args:
        starts: The first days of the last whole period and of the one before; none without one.
        themes: The figures of the four themes.
        moved: The changes that are larger than noise, the clearest first.
        charts: The charts of the themes.
    """

    starts: Sequence[date]
    themes: Mapping[str, Sequence[Compared]]
    moved: Sequence[Compared]
    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True)
class Part:
    """A queue, agent, channel or topic in the last whole week; `name` is None for the rest."""

    name: str | None
    id: str
    cells: Sequence[Compared]


@dataclass(frozen=True, slots=True)
class PartTable:
    """The parts of the account, the largest first, and their changes in the last ripe week."""

    title: str
    noun: str
    parts: Sequence[Part]
    changes: Sequence[Compared]
    figure: Figure


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The mean of a value by weekday and hour; None where no hour is loaded."""

    title: str
    rows: Mapping[int, Sequence[float | None]]
    most: float
    figure: Figure


class Overview:
    """Reads the marts and compares their figures.

    Args:
        marts: The marts.
        days: The days of the report.
        last: The last loaded day.
        marks: Texts over some days, by their place.
    """

    def __init__(
        self, marts: Marts, days: Sequence[date], last: date, marks: Mapping[int, str]
    ) -> None:
        self.marts, self.marks = marts, marks
        self.ripe_after = marts.ripe_after()
        ripe_until = last - timedelta(days=self.ripe_after or 0)
        wanted = ["is_whole", *BAND, *(each.column for each in MEASURES), *(e.n for e in MEASURES)]
        self.periods = {}
        for name in EARLIER:
            rows = marts.query(marts.overview(name, wanted, days[0]))
            by_start = {getattr(row, name): row for row in rows}
            starts = [*days] if name == "day" else [*by_start][:1]
            while starts and starts[-1] < max(by_start):
                starts.append(next_start(starts[-1], name))
            whole = {start for start, row in by_start.items() if row.is_whole}
            self.periods[name] = Periods(name, starts, by_start, whole, ripe_until)

    def screen(self, period: str, tables: Sequence[PartTable]) -> Screen:
        """The first screen for days, weeks or months, with the changes of some tables."""
        periods = self.periods[period]
        at = periods.latest(ripe=False)
        starts = [] if at is None else [periods.starts[max(at - n, 0)] for n in (0, periods.step)]
        themes, ripe = self._themes(period, ripe=period == "day"), self._themes(period, ripe=True)
        found = [each for figures in ripe.values() for each in figures]
        found += [each for table in tables for each in table.changes]
        moved = [each for each in found if each.verdict not in ("", "noise")]
        moved.sort(key=lambda each: each.clarity, reverse=True)
        return Screen(
            starts,
            themes,
            moved[:MOST_MOVED],
            [chart for title in CHARTS for chart in self._chart(period, title)],
        )

    def table(self, title: str) -> PartTable | None:
        """A table of parts; None if its mart has no whole week."""
        mart, noun, measures = PARTS[title]
        weeks = self.periods["week"]
        at, ripe = weeks.latest(ripe=False), weeks.latest(ripe=True)
        if at is None or mart not in self.marts.columns:
            return None
        wanted = [noun, f"{noun}_id", *(e.column for e in measures), *(e.n for e in measures)]
        first = weeks.starts[max(at - EARLIER["week"], 0)]
        sql = self.marts.parts(mart, wanted, first, weeks.starts[at])
        rows = self.marts.query(sql)
        by_part: defaultdict[str | None, dict[date, Any]] = defaultdict(dict)
        for row in rows:
            name = getattr(row, noun)
            by_part[getattr(row, f"{noun}_id", None if name == "none" else name)][row.week] = row
        parts, changes = [], []
        for id_, by_week in by_part.items():
            name = None if id_ is None else getattr(by_week[max(by_week)], noun)
            own, label = replace(weeks, rows=by_week), name or f"no {noun}"
            cells = [own.compare(each, at, part=label) for each in measures]
            parts.append(Part(name, id_ or "", cells))
            changes += [each for each in cells if each.is_ripe]
            if ripe not in (None, at):
                late = [each for each in measures if each.ripens]
                changes += [own.compare(each, ripe, part=label) for each in late]
        parts.sort(key=lambda part: (part.name is None, -(part.cells[0].now or 0), part.name or ""))
        return PartTable(title, noun, parts, changes, _figure(title, sql, rows)) if parts else None

    def heat_map(self, title: str) -> HeatMap | None:
        """The mean of a value by weekday and hour over the last whole weeks; None without one."""
        mart, column = HEAT_MAPS[title]
        weeks = self.periods["week"]
        at = weeks.latest(ripe=False)
        if at is None or mart not in self.marts.columns:
            return None
        first = weeks.starts[max(at + 1 - EARLIER["week"], 0)]
        last = next_start(weeks.starts[at], "week") - timedelta(days=1)
        sql = self.marts.by_hour(mart, column, first, last)
        rows = self.marts.query(sql)
        means = {(row.weekday, row.hour): row.mean for row in rows}
        weekdays = [(first.weekday() + each) % 7 + 1 for each in range(7)]
        grid = {day: [means.get((day, hour)) for hour in range(24)] for day in weekdays}
        return HeatMap(title, grid, max(means.values(), default=0), _figure(title, sql, rows))

    def revisions(self, since: date) -> Figure | None:
        """The totals that a reload changed since a day; None if there is none."""
        if "revisions" not in self.marts.columns:
            return None
        sql = self.marts.revisions(since)
        rows = self.marts.query(sql)
        return _figure("revisions", sql, rows) if rows else None

    def _themes(self, period: str, *, ripe: bool) -> dict[str, list[Compared]]:
        """The figures of each theme in the last whole period, or in the last ripe one."""
        periods = self.periods[period]
        return {
            theme: [
                periods.compare(each, at, days=self.periods["day"])
                for each in measures
                if (at := periods.latest(ripe=ripe and each.ripens)) is not None
            ]
            for theme, measures in THEMES.items()
        }

    def _chart(self, period: str, title: str) -> Iterator[Chart]:
        """The chart of a theme, if its first measure has values."""
        periods, measures = self.periods[period], CHARTS[title]
        wanted = [*(each.column for each in measures), *(BAND if CSAT in measures else ())]
        columns = {name: values for name in wanted if any(values := periods.values(name))}
        if measures[0].column not in columns:
            return
        places = range(len(periods.starts))
        young = {at for at in places if measures[0].ripens and not periods.is_ripe(at)}
        sql = self.marts.overview(period, [*columns], periods.starts[0])
        axis = {period: [str(each) for each in periods.starts]}
        yield Chart(
            title=title,
            unit=measures[0].unit,
            figure=Figure(f"{title}-by-{period}", sql, axis | columns),
            lines={each.column: each.label for each in measures if each.column in columns},
            texts=[
                f"{d:%b %Y}" if period == "month" else f"{d.day} {d:%b}" for d in periods.starts
            ],
            band=BAND if {*BAND} <= {*columns} else None,
            hollow=frozenset(young | {at for at in places if not periods.is_whole(at)}),
            missing=frozenset(at for at in places if periods.starts[at] not in periods.rows),
            marks=self.marks if period == "day" else {},
        )


def short_name(start: date, period: str) -> str:
    """A period on an axis: `9 Nov` or `Nov 2025`."""
    return f"{start:%b %Y}" if period == "month" else f"{start.day} {start:%b}"


def period_name(start: date, period: str) -> str:
    """A period as `Sun 9 Nov`, `week 45` or `November 2025`."""
    if period == "month":
        return f"{start:%B %Y}"
    if period == "day":
        return f"{start:%a} {start.day} {start:%b}"
    # Only weeks that begin on Monday have a number.
    return f"week {start:%V}" if start.isoweekday() == 1 else f"week of {start.day} {start:%b}"


def _figure(name: str, sql: str, rows: Sequence[Any]) -> Figure:
    fields = rows[0]._fields if rows else ()
    columns = {name: [getattr(row, name) for row in rows] for name in fields}
    return Figure(name, sql, columns)
