"""The first tab: four themes, what moved, and tables of queues, channels, agents and tags."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, NamedTuple

from dixa_assets.report.charts import Chart, Figure
from dixa_assets.report.compare import EARLIER, Compared, Measure, Periods, next_start
from dixa_assets.report.queries import Marts

CSAT = Measure("csat", "satisfied (CSAT)", "percent", 1, "answers", "answers", ripens=True)
TYPICAL = Measure("first_response_median", "first response, median", "seconds", -1, short="median")
SLOW = Measure("first_response_p90", "one in ten over", "seconds", -1)
WITHIN = Measure(
    "within_sla",
    "in the promised time",
    "percent",
    better=1,
    n="first_responses",
    cases="responses",
    short="in time",
)
CREATED, CLOSED = Measure("created", "came in"), Measure("closed", "closed")
OPEN = Measure("still_open", "still open", better=-1)
ACCEPTED = Measure("acceptance", "offers accepted", "percent", 1, "offers", "offers")
HANDLING = Measure("handling_median", "handling time, median", "seconds", -1)
HOURS = Measure("working_hours", "hours at work", "hours worked")
ANSWERS = Measure("answers", "answers", ripens=True)
NPS = Measure("nps", "NPS", "number", 1, ripens=True)
THEMES = {
    "Satisfaction": (CSAT, ANSWERS, NPS),
    "Speed": (TYPICAL, SLOW, WITHIN),
    "Volume": (CREATED, CLOSED, OPEN),
    "People": (Measure("agents", "people at work"), HOURS, ACCEPTED),
}
CHARTS = {
    "Satisfied customers": (CSAT,),
    "First response": (TYPICAL, SLOW),
    "Conversations": (CREATED, CLOSED, OPEN),
    "Hours at work": (HOURS,),
}
BAND = ("csat_low", "csat_high")
# The tables of parts: mart, column of the name, measures.
PARTS: Mapping[str, tuple[str, str, Sequence[Measure]]] = {
    "Queues": ("queues_weekly", "queue", (CREATED, CLOSED, TYPICAL, WITHIN, CSAT)),
    "Channels": ("channels_weekly", "channel", (CREATED, CLOSED, TYPICAL, SLOW, CSAT)),
    "Agents": (
        "agents_weekly",
        "agent",
        (Measure("closed_by_agent", "closed"), HOURS, ACCEPTED, HANDLING, CSAT),
    ),
    "Tags": ("tags_weekly", "tag", (Measure("conversations", "conversations"),)),
}
HEAT_MAPS = {
    "Arrivals per hour": ("hours", "created"),
    "People at work": ("staffing", "working_hours"),
}
MEASURES = [measure for measures in THEMES.values() for measure in measures]
# The most changes that are listed, of the whole account and of its parts.
MOST_MOVED = 6


class Screen(NamedTuple):
    """The first screen for days, weeks or months. `start` begins the last whole period."""

    start: date | None
    themes: Mapping[str, Sequence[Compared]]
    moved: Sequence[Compared]
    charts: Sequence[Chart]


class Part(NamedTuple):
    """A queue, agent, channel or tag in the last whole week; rows without one have no `name`."""

    name: str | None
    id: str
    cells: Sequence[Compared]

    @property
    def is_silent(self) -> bool:
        """True if nothing happened."""
        return not any(cell.now for cell in self.cells)


class PartTable(NamedTuple):
    """The parts of the account in the last whole week, the largest first."""

    title: str
    noun: str
    parts: Sequence[Part]
    figure: Figure


class HeatMap(NamedTuple):
    """The mean of a value by weekday and hour; None where no hour is loaded."""

    title: str
    rows: Mapping[int, Sequence[float | None]]
    most: float
    figure: Figure


class Overview:
    """The figures of the marts for `days`; `last` is the last loaded day.

    `marks` are texts over some days in charts, by their place.
    """

    def __init__(
        self, marts: Marts, days: Sequence[date], last: date, marks: Mapping[int, str]
    ) -> None:
        self.marts, self.marks, self.ripe_after = marts, marks, marts.ripe_after()
        ripe_until = last - timedelta(days=self.ripe_after or 0)
        wanted = ["is_whole", *BAND, *(each.column for each in MEASURES), *(e.n for e in MEASURES)]
        first_days = {"day": days[0], "week": days[0], "month": days[-1] - timedelta(days=400)}
        self.periods = {}
        for name, first in first_days.items():
            rows = marts.query(marts.overview(name, wanted, first))
            by_start = {getattr(row, name): row for row in rows}
            starts = [*days] if name == "day" else [*by_start][:1]
            while starts and starts[-1] < max(by_start):
                starts.append(next_start(starts[-1], name))
            whole = {start for start, row in by_start.items() if row.is_whole}
            periods = Periods(name, starts, by_start, whole, ripe_until)
            self.periods[name] = replace(periods, ripe_answers=self._ripe_answers(periods))

    def screen(self, period: str, tables: Sequence[PartTable]) -> Screen:
        """The first screen for days, weeks or months, with the changes of some tables."""
        periods = self.periods[period]
        at = periods.latest(ripe=False)
        themes = {
            theme: [
                periods.compare(each, place, self.periods["day"])
                for each in measures
                # An unripe week has ripe days. An unripe day is replaced by an earlier one.
                if (place := periods.latest(ripe=each.ripens and period == "day")) is not None
            ]
            for theme, measures in THEMES.items()
        }
        parts = (each for table in tables for part in table.parts for each in part.cells)
        clearest = sorted(
            (each for each in parts if each.has_moved), key=lambda each: -each.clarity
        )
        overall = [each for figures in themes.values() for each in figures if each.has_moved]
        moved = [*overall[:MOST_MOVED], *clearest[:MOST_MOVED]]
        charts = [chart for title in CHARTS if (chart := self._chart(period, title))]
        return Screen(None if at is None else periods.starts[at], themes, moved, charts)

    def table(self, title: str) -> PartTable | None:
        """A table of parts; None if its mart has no whole week."""
        mart, noun, measures = PARTS[title]
        weeks, columns = self.periods["week"], self.marts.columns[mart]
        at = weeks.latest(ripe=False)
        if at is None or not columns:
            return None
        key = f"{noun}_id" if f"{noun}_id" in columns else noun
        wanted = [noun, key, *(each.column for each in measures), *(each.n for each in measures)]
        first = weeks.starts[max(at - EARLIER["week"], 0)]
        sql = self.marts.parts(mart, wanted, first, weeks.starts[at])
        rows = self.marts.query(sql)
        measures = [m for m in measures if {getattr(row, m.column, None) for row in rows} - {None}]
        if not measures:
            return None
        by_part: defaultdict[str | None, dict[date, Any]] = defaultdict(dict)
        for row in rows:
            part = getattr(row, key)
            # Without an id, the name 'none' stands for the rest.
            by_part[None if key == noun and part == "none" else part][row.week] = row
        answers = self._ripe_answers(weeks, key) if CSAT in measures else {}
        parts = []
        for id_, by_week in by_part.items():
            name = id_ and getattr(by_week[max(by_week)], noun)
            ripe = {weeks.starts[at]: answers[id_]} if id_ in answers else {}
            own = replace(weeks, rows=by_week, ripe_answers=ripe)
            label = name or f"no {noun}"
            cells = [own.compare(each, at, self.periods["day"], label) for each in measures]
            parts.append(Part(name, id_ or "", cells))
        parts = [part for part in parts if part.name or not part.is_silent]
        parts.sort(key=lambda part: (part.name is None, -(part.cells[0].now or 0), part.name or ""))
        return PartTable(title, noun, parts, _figure(title, sql, rows))

    def heat_map(self, title: str) -> HeatMap | None:
        """The mean of a value by weekday and hour over the last whole weeks; None without one."""
        mart, column = HEAT_MAPS[title]
        weeks = self.periods["week"]
        at = weeks.latest(ripe=False)
        if at is None or not self.marts.columns[mart]:
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
        if not self.marts.columns["revisions"]:
            return None
        sql = self.marts.revisions(since)
        rows = self.marts.query(sql)
        return _figure("revisions", sql, rows) if rows else None

    def _ripe_answers(self, periods: Periods, key: str = "") -> Mapping[Any, Any]:
        """CSAT and answers of the ripe days of the last whole period, if it is not ripe.

        They are by its first day, or by the parts in the column `key`.
        """
        at = periods.latest(ripe=False)
        if at is None or periods.is_ripe(at):
            return {}
        start = periods.starts[at]
        return self.marts.ripe_answers(key or f"DATE '{start}'", start, periods.ripe_until)

    def _chart(self, period: str, title: str) -> Chart | None:
        """The chart of a theme; None if none of its measures has values."""
        periods, measures = self.periods[period], CHARTS[title]
        wanted = [*(each.column for each in measures), *(BAND if CSAT in measures else ())]
        columns = {name: periods.values(name) for name in wanted}
        columns = {name: values for name, values in columns.items() if {*values} != {None}}
        lines = {each.column: each.label for each in measures if each.column in columns}
        if not lines:
            return None
        places = range(len(periods.starts))
        young = {at for at in places if measures[0].ripens and not periods.is_ripe(at)}
        sql = self.marts.overview(period, [*columns], periods.starts[0])
        axis = [str(each) for each in periods.starts]
        return Chart(
            title=title,
            unit=measures[0].unit,
            figure=Figure(f"{title}-by-{period}", sql, {period: axis, **columns}),
            lines=lines,
            starts=periods.starts,
            band=BAND if {*BAND} <= {*columns} else None,
            hollow=frozenset(young | {at for at in places if not periods.is_whole(at)}),
            missing=frozenset(at for at in places if periods.starts[at] not in periods.rows),
            marks=self.marks if period == "day" else {},
        )


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
    return Figure(name, sql, {each: [getattr(row, each) for row in rows] for each in fields})
