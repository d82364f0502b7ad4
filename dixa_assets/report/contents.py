"""The contents of a report, read from the warehouse section by section."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from dixa_assets.checks.registry import problem_of
from dixa_assets.errors import WarehouseBusy, WarehouseLost, printable
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.options import Options
from dixa_assets.report import queries
from dixa_assets.report.charts import Figure
from dixa_assets.report.formats import human
from dixa_assets.report.overview import HEAT_MAPS, PARTS, HeatMap, Overview, PartTable, Screen
from dixa_assets.report.pages import Page, Pages
from dixa_assets.report.queries import Marts
from dixa_assets.warehouse.catalogue import read_catalogue
from dixa_assets.warehouse.signals import Interrupted
from dixa_assets.warehouse.sql import Query

# The most days of a report.
DAYS = 91
T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """The contents of a report.

    `screens`, `tables` and `heat_maps` are made of the marts, `missing` says what these lack. A day
    is ripe `ripe_after` days after it ended. `failures` has the error of each section that could
    not be made.
    """

    timezone: str
    now: datetime
    days: Sequence[date]
    never_loaded: Sequence[Entry] = ()
    pages: list[Page] = field(default_factory=list)
    has_marts: bool = False
    ripe_after: int | None = None
    screens: dict[str, Screen] = field(default_factory=dict)
    tables: Sequence[PartTable] = ()
    heat_maps: Sequence[HeatMap] = ()
    revisions: Figure | None = None
    missing: Sequence[Any] = ()
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def odd_days(self) -> dict[date, float]:
        """The hours of each day that does not have 24 hours."""
        hours = {day: Day.of(day, self.timezone).hours for day in self.days}
        return {day: length for day, length in hours.items() if length != 24}

    @property
    def concerns(self) -> dict[str, list[Page]]:
        """The faults of the data, each with the pages that have it."""
        concerns: defaultdict[str, list[Page]] = defaultdict(list)
        for page in self.pages:
            for fault in page.problems:
                concerns[fault].append(page)
        return concerns

    @property
    def first_screen(self) -> str:
        """The period that is shown first: weeks, or days if no week is whole."""
        return "week" if (week := self.screens.get("week")) and week.start else "day"

    def section(self, name: str, make: Callable[..., T], *arguments: Any) -> T | None:
        """Make a section. An error costs this section only, and the report names it."""
        try:
            return make(*arguments)
        except (WarehouseBusy, WarehouseLost, Interrupted):
            raise
        except Exception as error:
            self.failures[name] = problem_of(error)
            return None


def gather(query: Query, *, options: Options, now: datetime, days: int = DAYS) -> Report:
    """Read the contents of a report.

    Args:
        query: Queries the warehouse.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report, with a zone.
        days: The most days that it shows. The last one is yesterday, or the last loaded day if the
            warehouse has none of these days.
    """
    loaded = queries.loads(query)
    if not loaded:
        entries = [entry for entry in read_catalogue(query).entries if entry.is_live]
        return Report(options.timezone, now, (), entries)
    last = max(row.last for row in loaded.values())
    yesterday = now.astimezone(ZoneInfo(options.timezone)).date() - timedelta(days=1)
    end = max(last, yesterday) if last + timedelta(days=days) > yesterday else last
    first = max(min(row.first for row in loaded.values()), end - timedelta(days=days - 1))
    shown = [first + timedelta(days=number) for number in range((end - first).days + 1)]
    report = Report(options.timezone, now, shown)
    marks = {shown.index(day): f"{hours:g} h" for day, hours in report.odd_days.items()}
    totals = report.section("Metrics", queries.totals, query, shown) or {}
    pages = Pages(query, options, now, loaded, shown, marks, totals)
    report.never_loaded = [e for e in pages.entries if e.is_live and e.key not in loaded]
    report.pages = [
        page
        for entry in pages.entries
        if entry.key in loaded
        and (page := report.section(printable(human(entry.id)), pages.page, entry))
    ]
    marts = Marts(query)
    report.missing = marts.missing()
    report.has_marts = bool(marts.columns["overview_daily"])
    if report.has_marts:
        overview = report.section("Overview", Overview, marts, shown, last, marks)
        if overview:
            _add_overview(report, overview)
    return report


def _add_overview(report: Report, overview: Overview) -> None:
    """Add the sections that are made of marts."""
    report.ripe_after = overview.ripe_after
    tables = [report.section(each, overview.table, each) for each in PARTS]
    report.tables = [table for table in tables if table]
    for period in overview.periods:
        changing = report.tables if period == "week" else ()
        screen = report.section(f"Figures by {period}", overview.screen, period, changing)
        if screen:
            report.screens[period] = screen
    maps = [report.section(each, overview.heat_map, each) for each in HEAT_MAPS]
    report.heat_maps = [each for each in maps if each]
    since = report.now.date() - timedelta(days=7)
    report.revisions = report.section("Revisions", overview.revisions, since)
