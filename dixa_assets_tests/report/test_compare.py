"""A change that is listed is larger than what is normal."""

from collections import namedtuple
from datetime import date, timedelta
from math import sqrt
from random import Random
from statistics import mean
from typing import Any

import pytest

from dixa_assets.report.compare import Measure, Periods, next_start, normal_of_mean

FIRST = date(2025, 9, 1)
COUNT, SHARE = Measure("count", "count", better=1), Measure("share", "share", "percent", 1, "n")
RATED = Measure("share", "share", "percent", 1, "n", ripens=True)
Row = namedtuple("Row", ["count", "share", "n"])  # noqa: PYI024


def weeks(*rows: Row | None, ripe_until: date = date.max, **more: Any) -> Periods:
    starts = [FIRST + timedelta(weeks=each) for each in range(len(rows))]
    known = {start: row for start, row in zip(starts, rows, strict=True) if row}
    return Periods("week", starts, known, {*known}, ripe_until, **more)


def by_day(*values: float | None) -> Periods:
    days = [FIRST + timedelta(days=each) for each in range(len(values))]
    rows = {day: Row(value, None, None) for day, value in zip(days, values, strict=True)}
    return Periods("day", days, rows, {*days}, date.max)


NO_DAYS = by_day()


def test_the_normal_change_of_a_percentage_is_that_of_chance() -> None:
    share = (80 * 600 + 86 * 2400) / 3000
    expected = 1.96 * sqrt(share * (100 - share) * (1 / 600 + 1 / 2400))
    compared = weeks(Row(1, 86, 2400), Row(1, 80, 600)).compare(SHARE, 1, NO_DAYS)
    assert (compared.change, compared.normal) == (-6, pytest.approx(expected))
    assert compared.verdict == "worse"


@pytest.mark.parametrize(
    ("before", "now"),
    [(Row(1, 86, 2400), Row(1, 50, 29)), (Row(1, 86, 29), Row(1, 50, 600))],
)
def test_a_percentage_of_few_cases_has_no_verdict(before: Row, now: Row) -> None:
    assert weeks(before, now).compare(SHARE, 1, NO_DAYS).verdict == ""


def test_an_absent_percentage_has_no_verdict() -> None:
    compared = weeks(Row(1, 86, 2400), Row(1, None, None)).compare(SHARE, 1, NO_DAYS)
    assert (compared.now, compared.change, compared.verdict) == (None, None, "")


def test_weeks_that_differ_by_chance_are_normal() -> None:
    random = Random(1)

    def week() -> list[float]:
        return [random.gauss(100, 20) for _ in range(7)]

    def is_normal() -> bool:
        earlier = [week() for _ in range(4)]
        normal = normal_of_mean([*zip(*earlier, strict=True)], is_count=False)
        usual = mean(mean(each) for each in earlier)
        return normal is not None and abs(mean(week()) - usual) <= normal

    assert sum(is_normal() for _ in range(1000)) > 970


def test_a_weekday_is_compared_with_its_weekday() -> None:
    week = [*[100.0] * 5, *[20.0] * 2]
    quiet = [*[101.0] * 5, *[19.0] * 2]
    days = by_day(*week, *quiet, *week, *week, *[90.0] * 7)
    sunday = days.compare(COUNT, 34, days)
    assert (sunday.usual, sunday.verdict) == (20, "better")
    rows = [Row(sum(each), None, None) for each in (week, quiet, week, week, [90.0] * 7)]
    compared = weeks(*rows).compare(COUNT, 4, days)
    assert (compared.now, compared.usual, compared.verdict) == (630, 540.75, "better")


def test_a_bad_week_does_not_hide_the_next_one() -> None:
    periods = weeks(*(Row(each, None, None) for each in (300, 12, 9, 11, 303)))
    assert periods.compare(COUNT, 4, NO_DAYS, "a topic").verdict == "better"


def test_too_few_earlier_values_give_no_verdict() -> None:
    assert normal_of_mean([[4, 4]], is_count=True) is None
    assert normal_of_mean([[4, 4, 4, 4], [None]], is_count=True) is None
    compared = weeks(Row(5, 80, 100)).compare(SHARE, 0, NO_DAYS)
    assert (compared.verdict, compared.usual, compared.before) == ("", None, None)


def test_the_usual_percentage_weighs_each_week_by_its_cases() -> None:
    compared = weeks(Row(1, 50, 100), Row(1, 90, 300), Row(1, 80, 200)).compare(SHARE, 2, NO_DAYS)
    assert compared.usual == 80
    assert compared.before == 90


def test_a_week_that_is_not_whole_is_not_compared_with() -> None:
    periods = weeks(Row(1, 90, 300), Row(1, 10, 300), Row(1, 80, 200))
    partial = Periods("week", periods.starts, periods.rows, {FIRST}, date.max)
    assert partial.latest(ripe=False) == 0
    compared = partial.compare(SHARE, 2, NO_DAYS)
    assert (compared.usual, compared.before) == (90, None)


def test_a_week_that_is_not_ripe_is_judged_by_its_ripe_days() -> None:
    rows = (Row(1, 90, 400), Row(1, 88, 400), Row(1, 60, 200))
    sunday = FIRST + timedelta(days=20)
    saturday = sunday - timedelta(days=1)
    last = FIRST + timedelta(weeks=2)
    young = weeks(*rows, ripe_until=saturday, ripe_answers={last: (89, 150)})
    compared = young.compare(RATED, 2, NO_DAYS)
    assert (compared.now, compared.judged, compared.n) == (60, 89, 150)
    assert (compared.is_ripe, compared.verdict) == (False, "normal")
    unknown = weeks(*rows, ripe_until=saturday).compare(RATED, 2, NO_DAYS)
    assert (unknown.judged, unknown.verdict) == (None, "")
    ripe = weeks(*rows, ripe_until=sunday).compare(RATED, 2, NO_DAYS)
    assert (ripe.judged, ripe.verdict) == (60, "worse")
    assert (young.latest(ripe=True), young.latest(ripe=False)) == (1, 2)


def test_the_parts_of_an_account_need_a_clearer_change() -> None:
    periods = weeks(Row(1, 86, 400), Row(1, 80, 400))
    assert periods.compare(SHARE, 1, NO_DAYS).verdict == "worse"
    part = periods.compare(SHARE, 1, NO_DAYS, "Returns")
    assert (part.label, part.verdict) == ("Returns: share", "normal")


def test_the_next_period_begins_after_the_last_day() -> None:
    assert next_start(date(2025, 10, 25), "day") == date(2025, 10, 26)
    assert next_start(date(2025, 12, 29), "week") == date(2026, 1, 5)
    assert next_start(date(2025, 12, 1), "month") == date(2026, 1, 1)
