"""Windows of days touch in every zone, whatever the clocks do."""

from datetime import date, datetime, timedelta
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.model.days import Window
from dixa_assets_tests.support.days import APIA_GAP

ZONES = (
    "Europe/Copenhagen",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Atlantic/Azores",
    "America/Toronto",
)
zones = st.sampled_from(ZONES)
days = st.dates(date(2000, 1, 1), date(2035, 12, 31))
PARTITIONS = {
    zone: dg.DailyPartitionsDefinition("2000-01-01", end_date="2036-01-02", timezone=zone)
    for zone in ZONES
}


@given(zones, days)
def test_windows_of_consecutive_days_touch(zone: str, day: date) -> None:
    today = Window.of_day(day, zone)
    assert today.end == Window.of_day(day + timedelta(days=1), zone).start
    assert today.start == Window.of_day(day - timedelta(days=1), zone).end


@given(zones, days)
def test_a_window_has_22_to_26_hours_unless_the_day_never_was(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    if (zone, day) == ("Pacific/Apia", APIA_GAP):
        assert window.is_empty
        assert window.hours == 0
    else:
        assert not window.is_empty
        assert 22 <= window.hours <= 26


@given(zones, days)
def test_a_window_is_that_of_dagsters_partition(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    # Dagster gives the day that never was the window of the day after it.
    if not window.is_empty:
        theirs = PARTITIONS[zone].time_window_for_partition_key(day.isoformat())
        assert window.start.timestamp() == theirs.start.timestamp()
        assert window.end.timestamp() == theirs.end.timestamp()


@pytest.mark.parametrize("zone", ZONES)
def test_windows_of_every_clock_change_touch_and_equal_dagsters(zone: str) -> None:
    everyday = [date(2000, 1, 2) + timedelta(days=n) for n in range(36 * 365)]
    windows = [Window.of_day(day, zone) for day in everyday]
    assert all(one.end == other.start for one, other in pairwise(windows))
    unusual = [one for one in windows if one.hours not in (0, 24)]
    assert bool(unusual) == (zone != "Asia/Kolkata")
    for one in unusual:
        theirs = PARTITIONS[zone].time_window_for_partition_key(one.day.isoformat())
        assert one.start.timestamp() == theirs.start.timestamp()
        assert one.end.timestamp() == theirs.end.timestamp()


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Copenhagen", "2025-03-29", "2025-03-28T23:00", 24),
        ("Europe/Copenhagen", "2025-03-30", "2025-03-29T23:00", 23),
        ("Europe/Copenhagen", "2025-10-26", "2025-10-25T22:00", 25),
        ("America/Toronto", "2025-03-09", "2025-03-09T05:00", 23),
        ("America/Toronto", "2025-11-02", "2025-11-02T04:00", 25),
        # Midnight does not exist: the day begins at 01:00, when the clocks jump.
        ("America/Santiago", "2024-09-08", "2024-09-08T04:00", 23),
        ("America/Santiago", "2024-09-07", "2024-09-07T04:00", 24),
        ("America/Santiago", "2024-04-06", "2024-04-06T03:00", 25),
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00", 23),
        ("Africa/Cairo", "2024-10-31", "2024-10-30T21:00", 25),
        # Midnight comes twice: the day begins at the first.
        ("Atlantic/Azores", "2024-10-27", "2024-10-27T00:00", 25),
        ("Atlantic/Azores", "2024-10-26", "2024-10-26T00:00", 24),
        ("Atlantic/Azores", "2024-03-31", "2024-03-31T01:00", 23),
        ("Asia/Kolkata", "2024-03-31", "2024-03-30T18:30", 24),
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", 24),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", 0),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", 24),
    ],
)
def test_known_days_have_their_hours(zone: str, day: str, start: str, hours: float) -> None:
    window = Window.of_day(date.fromisoformat(day), zone)
    assert window.start == datetime.fromisoformat(f"{start}+00:00")
    assert window.hours == hours
