"""Days that several tests load, and the rows that the simulator has for a day."""

from collections.abc import Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

from dixa_assets.model.days import Day
from dixa_assets.simulator.values import Row
from dixa_assets.simulator.world import Filter, World
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Json

DAY = Day.of(date(2025, 11, 5), COPENHAGEN)
START, END = DAY.period.start, DAY.period.end
# Samoa skipped this day when it crossed the date line.
APIA_GAP = date(2011, 12, 30)


def today_in_copenhagen() -> date:
    """The current day there. For the last one or two hours of a day in UTC, it is the next day."""
    return datetime.now(ZoneInfo(COPENHAGEN)).date()


def rows_of(
    world: World, entry_id: str, day: Day = DAY, filters: Sequence[Filter] = ()
) -> list[Row]:
    """The rows of a record, or the rows behind a metric, that the simulator has for a day."""
    start, end = day.period.start, day.period.end
    return world.rows(entry_id, start=start, end=end, now=NOW, filters=filters)


def aggregates_of(world: World, metric_id: str, day: Day = DAY) -> list[Json]:
    """The aggregates of a metric that the simulator has for a day."""
    start, end = day.period.start, day.period.end
    return world.aggregate(metric_id, start=start, end=end, now=NOW)
