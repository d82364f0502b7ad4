"""The period that is asked for: which instants of a day, for metrics and for records."""

from datetime import date, datetime

from hypothesis import given

from dixa_assets.api.requests import Request
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import Window
from dixa_assets_tests.model.test_days import days, zones
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND

METRIC, RECORD = Request(Entry("metric", "csat")), Request(Entry("record", "ratings"))


def test_an_interval_goes_out_in_utc_with_milliseconds_and_ends_one_before_the_next() -> None:
    window = Window.of_day(date(2025, 10, 26), COPENHAGEN)
    assert METRIC.body(window)["periodFilter"] == {
        "_type": "Interval",
        "start": "2025-10-25T22:00:00.000Z",
        "end": "2025-10-26T22:59:59.999Z",
    }


@given(zones, days)
def test_an_interval_names_the_window_but_for_its_last_millisecond(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    interval = METRIC.body(window)["periodFilter"]
    assert datetime.fromisoformat(interval["start"]) == window.start
    assert datetime.fromisoformat(interval["end"]) == window.end - MILLISECOND


@given(zones, days)
def test_records_are_asked_for_up_to_the_next_midnight_itself(zone: str, day: date) -> None:
    window = Window.of_day(day, zone)
    interval = RECORD.body(window)["periodFilter"]
    assert datetime.fromisoformat(interval["start"]) == window.start
    assert datetime.fromisoformat(interval["end"]) == window.end
