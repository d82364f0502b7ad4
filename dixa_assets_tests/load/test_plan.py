"""The plan: how days are asked for, together, alone or in parts."""

from collections import deque
from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dixa_assets.load.plan import Ask, next_ask
from dixa_assets.model.counts import Volume
from dixa_assets.model.days import Window
from dixa_assets_tests.support.days import windows

ZONES = ("Europe/Copenhagen", "America/Santiago", "Africa/Cairo", "Asia/Kolkata", "Pacific/Apia")


def asks(waiting: Sequence[Window], volume: Volume) -> list[Ask]:
    left, found = deque(waiting), []
    while left:
        found.append(next_ask(left, volume, page_rows=300, most_parts=6))
    return found


@given(
    first=st.dates(date(2011, 12, 1), date(2026, 1, 1)),
    number=st.integers(1, 120),
    zone=st.sampled_from(ZONES),
    volume=st.builds(
        Volume,
        days=st.integers(0, 30),
        rows=st.one_of(st.just(0), st.integers(0, 10**7)),
        alone=st.booleans(),
    ),
    gap=st.integers(0, 119),
)
def test_whatever_the_volume_every_day_is_asked_for_once_and_whole(
    first: date, number: int, zone: str, volume: Volume, gap: int
) -> None:
    waiting = windows(first, number, zone)
    del waiting[gap : gap + 1]
    found = asks(waiting, volume)
    assert [day for ask in found for day in ask.days] == waiting
    for ask in found:
        assert ask.windows[0].start == ask.days[0].start
        assert ask.windows[-1].end == ask.days[-1].end
        for before, after in pairwise(ask.windows):
            assert before.end == after.start
        assert all(each.start.microsecond % 1000 == 0 for each in ask.windows)
        assert len(ask.days) == 1 or len(ask.windows) == 1
        for before, after in pairwise(ask.days):
            assert before.end == after.start
        if volume.alone:
            assert ask.windows == ask.days


@pytest.mark.parametrize(
    ("rows_a_day", "requests", "longest"),
    [(0, 1, 60), (5, 1, 60), (120, 3, 25), (3_000, 60, 1), (20_000, 360, 1)],
)
def test_few_rows_share_a_request_and_many_come_side_by_side(
    rows_a_day: int, requests: int, longest: int
) -> None:
    found = asks(windows(date(2025, 9, 1), 60), Volume(days=30, rows=30 * rows_a_day))
    assert sum(len(ask.windows) for ask in found) == requests
    assert max(len(ask.days) for ask in found) == longest


def test_a_record_never_loaded_is_asked_for_day_by_day() -> None:
    assert all(ask.windows == ask.days for ask in asks(windows(date(2025, 9, 1), 60), Volume()))
