"""Consecutive days touch in every zone, through every clock change."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import get_args

import dagster as dg
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dixa_assets.model.days import (
    MILLISECOND,
    Day,
    Period,
    Weekday,
    days_from,
    local_date,
    spans_ending,
)

ZONES = (
    "Europe/Copenhagen",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Atlantic/Azores",
    "America/Toronto",
)
# Samoa skipped this day when it crossed the date line.
SKIPPED = ("Pacific/Apia", date(2011, 12, 30))
PARTITIONS = {
    zone: dg.DailyPartitionsDefinition("2000-01-01", end_date="2036-01-02", timezone=zone)
    for zone in ZONES
}
zones = st.sampled_from(ZONES)
dates = st.dates(date(2000, 1, 1), date(2035, 12, 31))


def is_dagsters(day: Day) -> bool:
    """True if Dagster's partition has the same period."""
    theirs = PARTITIONS[day.timezone].time_window_for_partition_key(str(day))
    return (day.period.start.timestamp(), day.period.end.timestamp()) == (
        theirs.start.timestamp(),
        theirs.end.timestamp(),
    )


@given(zones, dates)
def test_a_day_touches_the_days_before_and_after_it(zone: str, day: date) -> None:
    before, today, after = days_from(day - timedelta(days=1), 3, zone)
    assert before.period.end == today.period.start
    assert today.period.end == after.period.start


@given(zones, dates)
def test_a_day_has_22_to_26_hours_unless_it_was_skipped(zone: str, date_: date) -> None:
    day = Day.of(date_, zone)
    if (zone, date_) == SKIPPED:
        assert day.is_empty
        assert day.hours == 0
    else:
        assert not day.is_empty
        assert 22 <= day.hours <= 26


@given(zones, dates)
def test_a_day_has_the_period_of_dagsters_partition(zone: str, date_: date) -> None:
    day = Day.of(date_, zone)
    # Dagster gives a skipped day the period of the next day.
    assert day.is_empty or is_dagsters(day)


@pytest.mark.parametrize("zone", ZONES)
def test_days_of_every_clock_change_touch_and_are_dagsters(zone: str) -> None:
    days = days_from(date(2000, 1, 2), 36 * 365, zone)
    assert all(one.period.end == other.period.start for one, other in pairwise(days))
    unusual = [day for day in days if day.hours not in (0, 24)]
    assert bool(unusual) == (zone != "Asia/Kolkata")
    assert [str(day) for day in unusual if not is_dagsters(day)] == []


@pytest.mark.parametrize(
    ("zone", "date_", "start", "hours"),
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
def test_known_days_have_their_hours(zone: str, date_: str, start: str, hours: float) -> None:
    day = Day.of(date.fromisoformat(date_), zone)
    assert str(day) == date_
    assert day.period.start == datetime.fromisoformat(f"{start}+00:00")
    assert day.hours == hours


@given(zones, dates, st.integers(0, 12))
def test_halves_of_a_period_touch_and_cover_it(zone: str, date_: date, times: int) -> None:
    period = Day.of(date_, zone).period
    for _ in range(times):
        first, second = period.halves()
        assert (first.start, first.end, second.end) == (period.start, second.start, period.end)
        period = second


def test_a_period_of_two_milliseconds_is_not_split() -> None:
    start = datetime.fromisoformat("2025-01-01T00:00:00+00:00")
    assert [Period(start, start + n * MILLISECOND).is_shortest for n in (1, 2, 3)] == [1, 1, 0]
    first, second = Period(start, start + 2 * MILLISECOND).halves()
    assert first.end - first.start == second.end - second.start == MILLISECOND


MICROSECONDS = st.integers(-(10**9), 10**11).map(lambda number: timedelta(microseconds=number))


@given(zones, dates, MICROSECONDS, MICROSECONDS)
def test_parts_of_a_period_touch_cover_it_and_are_cut_at_whole_milliseconds(
    zone: str, date_: date, first: timedelta, length: timedelta
) -> None:
    period = Day.of(date_, zone).period
    assume(not period.is_empty)
    parts = period.split(period.start + first, period.start + first + abs(length))
    assert (parts[0].start, parts[-1].end) == (period.start, period.end)
    assert all(one.end == other.start for one, other in pairwise(parts))
    assert all(part.start < part.end and part != period for part in parts)
    assert all(part.start.microsecond % 1000 == 0 for part in parts)


def test_rows_of_one_timestamp_get_a_part_that_begins_a_millisecond_early() -> None:
    period = Day.of(date(2025, 1, 1), "Europe/Copenhagen").period
    at = period.start + timedelta(hours=9, microseconds=1_234_567)
    before, around, after = period.split(at, at)
    assert around.is_shortest
    assert at - before.end == timedelta(microseconds=1567)
    assert after.start - at == timedelta(microseconds=433)
    # Nothing lies before the first millisecond of a period, or after its last.
    assert period.split(period.start, period.start)[0].end == period.start + MILLISECOND
    last = period.end - MILLISECOND
    assert period.split(last, last)[-1].start == last - MILLISECOND


def test_rows_that_are_spread_or_unknown_are_requested_in_halves() -> None:
    period = Day.of(date(2025, 1, 1), "Europe/Copenhagen").period
    halves = [*period.halves()]
    for first, last in [
        (None, None),
        (period.start, period.end),
        (period.start - timedelta(days=2), period.start - timedelta(days=1)),
        (period.end + timedelta(days=1), period.end + timedelta(days=2)),
    ]:
        assert period.split(first, last) == halves


def test_the_date_of_an_instant_is_the_local_one() -> None:
    assert local_date("2025-01-01T23:30:00+00:00", "Europe/Copenhagen") == date(2025, 1, 2)


# Weeks and months.

weekdays = st.sampled_from(get_args(Weekday))


@given(zones, dates, st.sampled_from(["week", "month"]), weekdays)
def test_periods_touch_and_each_ends_with_one_day(
    zone: str, first: date, name: str, weekday: Weekday
) -> None:
    days = days_from(first, 70, zone)
    ends = {day: spans_ending(day, [name], weekday) for day in days}
    spans = [span for found in ends.values() for span in found]
    assert len(spans) >= (9 if name == "week" else 2)
    for before, after in pairwise(spans):
        assert before.period.end == after.period.start
        assert before.first_day < after.first_day
    for day, found in ends.items():
        for span in found:
            assert span.period.end == day.period.end
            assert span.period.start == Day.of(span.first_day, zone).period.start
            is_first = name == "month" or get_args(Weekday)[span.first_day.weekday()] == weekday
            assert is_first
            assert name == "week" or span.first_day.day == 1


@pytest.mark.parametrize(
    ("zone", "last", "hours"),
    [
        ("Europe/Copenhagen", date(2025, 3, 30), 7 * 24 - 1),
        ("Europe/Copenhagen", date(2025, 10, 26), 7 * 24 + 1),
        ("America/Santiago", date(2025, 9, 7), 7 * 24 - 1),
        ("Australia/Lord_Howe", date(2025, 4, 6), 7 * 24 + 0.5),
        # Samoa has no 2011-12-30.
        ("Pacific/Apia", date(2012, 1, 1), 6 * 24),
    ],
)
def test_a_week_has_the_hours_of_its_days(zone: str, last: date, hours: float) -> None:
    (week,) = spans_ending(Day.of(last, zone), ["week"], "monday")
    assert (week.period.end - week.period.start).total_seconds() / 3600 == hours


def test_a_week_whose_last_day_never_was_ends_with_the_day_before() -> None:
    thursday, skipped = days_from(date(2011, 12, 29), 2, "Pacific/Apia")
    (week,) = spans_ending(thursday, ["week"], "saturday")
    assert week.first_day == date(2011, 12, 24)
    assert spans_ending(skipped, ["week"], "saturday") == []
