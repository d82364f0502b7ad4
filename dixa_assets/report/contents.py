"""The contents of a report, read from the warehouse section by section."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.options import Options
from dixa_assets.report import queries
from dixa_assets.report.charts import Figure
from dixa_assets.report.formats import human
from dixa_assets.report.overview import HEAT_MAPS, PARTS, HeatMap, Overview, PartTable, Screen
from dixa_assets.report.pages import Page, Pages, shown_days
from dixa_assets.report.queries import Marts
from dixa_assets.warehouse.sql import Query

# The most days of a report.
DAYS = 91
T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """The contents of a report.

    `failures` has the type of the error of each section that could not be made.
    """

    timezone: str
    now: datetime
    days: Sequence[date]
    pages: list[Page] = field(default_factory=list)
    never_loaded: Sequence[Entry] = ()
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
        """The failed checks by what is wrong, each with the pages where it is."""
        concerns: defaultdict[str, list[Page]] = defaultdict(list)
        for page in self.pages:
            for fault in page.problems:
                concerns[fault].append(page)
        return dict(concerns)

    @property
    def first_screen(self) -> str:
        """The period that is shown first: weeks, or days if no week is whole."""
        return "week" if (week := self.screens.get("week")) and week.start else "day"

    def section(self, name: str, make: Callable[[], T | None]) -> T | None:
        """Make a section. An error costs this section only, and is named in the report."""
        try:
            return make()
        except DixaAssetsError:
            raise
        except Exception as error:
            self.failures[name] = type(error).__name__
            return None


def gather(query: Query, *, options: Options, now: datetime, days: int = DAYS) -> Report:
    """Read the contents of a report.

    Args:
        query: Queries the warehouse.
        options: How loads are configured, with the findings of the probe.
        now: The instant of the report, with a zone.
        days: The most days that it shows.
    """
    loaded = queries.loads(query)
    report = Report(options.timezone, now, shown_days(loaded, now, options.timezone, days))
    marks = {report.days.index(day): f"{hours:g} h" for day, hours in report.odd_days.items()}
    pages = Pages(query, options, now, loaded, report.days, marks)
    report.never_loaded = [e for e in pages.entries if e.is_live and e.key not in loaded]
    for entry in pages.entries:
        if entry.key in loaded:
            page = report.section(human(entry.id), partial(pages.page, entry))
            report.pages += [page] if page else []
    marts = Marts(query)
    report.has_marts = bool(marts.columns)
    if loaded and report.has_marts:
        report.missing = marts.missing()
        last = max(row.last for row in loaded.values())
        overview = report.section("Overview", lambda: Overview(marts, report.days, last, marks))
        if overview:
            _add_overview(report, overview)
    return report


def _add_overview(report: Report, overview: Overview) -> None:
    """Add the sections of the first tab."""
    report.ripe_after = overview.ripe_after
    tables = (report.section(each, partial(overview.table, each)) for each in PARTS)
    report.tables = [table for table in tables if table]
    for period in overview.periods:
        changing = report.tables if period == "week" else ()
        make = partial(overview.screen, period, changing)
        if screen := report.section(f"Overview by {period}", make):
            report.screens[period] = screen
    maps = (report.section(each, partial(overview.heat_map, each)) for each in HEAT_MAPS)
    report.heat_maps = [each for each in maps if each]
    since = report.now.date() - timedelta(days=7)
    report.revisions = report.section("Revisions", lambda: overview.revisions(since))
