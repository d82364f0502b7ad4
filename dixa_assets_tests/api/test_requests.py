"""The period in a request: which instants of a day it names."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pytest

from dixa_assets.api.requests import Request
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND

# A day of 25 hours.
DAY = Day.of(date(2025, 10, 26), COPENHAGEN)


@dataclass(frozen=True)
class Case:
    """An entry, what the probe found, and the time before midnight at which the period ends."""

    kind: str
    before_midnight: timedelta
    is_end_exclusive: bool = False
    selects_by_primary_timestamp: bool = True


CASES = [
    Case("metric", MILLISECOND),
    Case("metric", timedelta(), is_end_exclusive=True),
    Case("record", timedelta()),
    Case("record", timedelta(), is_end_exclusive=True),
    Case("record", MILLISECOND, selects_by_primary_timestamp=False),
    Case("record", timedelta(), selects_by_primary_timestamp=False, is_end_exclusive=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_period_ends_where_no_row_is_lost_or_counted_twice(case: Case) -> None:
    spec = LoadSpec(
        Entry(case.kind, "an_entry"),
        COPENHAGEN,
        is_end_exclusive=case.is_end_exclusive,
        selects_by_primary_timestamp=case.selects_by_primary_timestamp,
    )
    interval = Request(spec).body(DAY.period)["periodFilter"]
    assert datetime.fromisoformat(interval["start"]) == DAY.period.start
    assert datetime.fromisoformat(interval["end"]) == DAY.period.end - case.before_midnight


def test_a_period_is_sent_in_utc_with_milliseconds() -> None:
    assert Request(LoadSpec(Entry("metric", "csat"), COPENHAGEN)).body(DAY.period) == {
        "id": "csat",
        "periodFilter": {
            "_type": "Interval",
            "start": "2025-10-25T22:00:00.000Z",
            "end": "2025-10-26T22:59:59.999Z",
        },
        "timezone": COPENHAGEN,
    }
