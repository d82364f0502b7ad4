"""The lines about a load: the last day always has one, other days only after some seconds."""

from datetime import date, timedelta

import pytest

from dixa_assets.load import progress
from dixa_assets.load.progress import LoadedDay, Progress
from dixa_assets.model.counts import Counts, Usage
from dixa_assets.model.days import Day
from dixa_assets_tests.support.simulator import COPENHAGEN


def lines_of(number: int) -> list[str | None]:
    lines = Progress(number)
    days = [Day.of(date(2025, 1, 1) + timedelta(days=each), COPENHAGEN) for each in range(number)]
    return [
        lines.line(LoadedDay(day, Counts(rows=2), Usage(requests=1), {}, (), (), 0.1, ()))
        for day in days
    ]


def test_a_short_load_has_one_line_with_all_its_days() -> None:
    *earlier, last = lines_of(3)
    assert earlier == [None, None]
    assert last
    assert "3 of 3 days, 6 rows, 3 requests" in last


def test_a_slow_load_has_a_line_for_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert all(lines_of(3))
