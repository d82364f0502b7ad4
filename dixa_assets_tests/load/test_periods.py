"""Weeks and months come from Dixa, with the day that ends them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from dixa_assets.model.days import Day, days_from
from dixa_assets.model.options import LoadSpec
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.world import Filter, World
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import selected
from dixa_assets_tests.support.loading import load_days
from dixa_assets_tests.support.scenario import midnight
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Simulator
from dixa_assets_tests.support.staged import spec_of
from dixa_assets_tests.support.truth import PERIODS, Rows, period_rows_of, rows_in

BOTH = ("week", "month")
MONDAY = date(2025, 11, 3)
WEEK = days_from(MONDAY, 7, COPENHAGEN)
SUNDAY = WEEK[-1]
TOTALS = "SELECT period, first_day::VARCHAR, measure, value FROM dixa_metrics.period_values"


def metric(metric_id: str, zone: str = COPENHAGEN, **settings: object) -> LoadSpec:
    return spec_of("metric", metric_id, zone, **({"periods": BOTH} | settings))


# The last days of weeks and months: around clock changes, at a midnight that does not exist
# (Santiago, September), and around a day that never was (Apia).
LAST_DAYS = {
    "Europe/Copenhagen": ["2025-03-30", "2025-10-26", "2025-10-31"],
    "America/Santiago": ["2025-04-06", "2025-09-07", "2025-09-30"],
    "Pacific/Apia": ["2011-12-31", "2012-01-01"],
    "Australia/Lord_Howe": ["2025-04-06", "2025-10-05"],
}


@pytest.mark.slow
@pytest.mark.parametrize("zone", LAST_DAYS)
def test_weeks_and_months_have_every_measure_of_the_simulator(
    zone: str, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path / "zone.duckdb", WarehouseSettings(timezone=zone))
    days = [Day.of(date.fromisoformat(day), zone) for day in LAST_DAYS[zone]]
    for name in METRICS:
        load_days(simulator.url, warehouse, metric(name, zone), days)
    found = rows_in(warehouse.path, PERIODS)
    assert found == {
        (PERIODS, str(day)): period_rows_of(world, METRICS, str(day), zone) for day in days
    }


def test_only_the_day_that_ends_a_period_requests_it_and_no_period_is_running(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    # Weeks from Tuesday on: the week of NOW, a Monday, is not over.
    spec = metric("closed_conversations", week_starts_on="tuesday")
    load_days(simulator.url, warehouse, spec, days_from(date(2025, 10, 28), 13, COPENHAGEN))
    periods = [request["body"]["periodFilter"] for request in simulator.requests()]
    assert {period["_type"] for period in periods} == {"Interval"}
    spans = [
        tuple(datetime.fromisoformat(period[edge]) for edge in ("start", "end"))
        for period in periods
    ]
    assert len(spans) == 13 + 2
    assert all(end < NOW for _, end in spans)
    long = sorted(span for span in spans if span[1] - span[0] > timedelta(days=1))
    ends = date(2025, 11, 1), date(2025, 11, 4)
    firsts = date(2025, 10, 1), date(2025, 10, 28)
    assert long == [
        (midnight(first, COPENHAGEN), midnight(end, COPENHAGEN) - timedelta(milliseconds=1))
        for first, end in zip(firsts, ends, strict=True)
    ]


def test_without_the_setting_no_period_is_requested(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    load_days(simulator.url, warehouse, spec_of("metric", "csat"), [SUNDAY])
    assert len(simulator.requests()) == 1
    assert selected(warehouse, TOTALS) == []


def test_a_breakdown_has_weeks_for_each_value(
    simulator: Simulator, world: World, warehouse: Warehouse
) -> None:
    spec = metric("closed_conversations", breakdowns=("channel",))
    load_days(simulator.url, warehouse, spec, [SUNDAY])
    found = selected(
        warehouse,
        "SELECT breakdown_value, value FROM dixa.metrics_weekly "
        "WHERE breakdown_attribute = 'channel' ORDER BY ALL",
    )
    week = {"start": WEEK[0].period.start, "end": SUNDAY.period.end, "now": NOW}
    assert len(found) == 5
    for channel, value in found:
        only = (Filter("channel", (channel,)),)
        (count,) = world.aggregate("closed_conversations", filters=only, **week)
        assert value == count["value"]


def test_a_late_rating_arrives_in_its_week_with_a_reload_of_the_last_day(
    simulator: Simulator, world: World, warehouse: Warehouse
) -> None:
    period = {"start": midnight(date(2025, 10, 13), COPENHAGEN)}
    period["end"] = midnight(date(2025, 10, 20), COPENHAGEN)
    counts = []
    for now in (datetime(2025, 10, 20, 3, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)):
        simulator.tell("clock", now=now.isoformat())
        sunday = Day.of(date(2025, 10, 19), COPENHAGEN)
        load_days(simulator.url, warehouse, metric("ratings_received"), [sunday])
        (truth,) = world.aggregate("ratings_received", now=now, **period)
        assert selected(warehouse, TOTALS) == [("week", "2025-10-13", "Count", truth["value"])]
        counts.append(truth["value"])
    assert counts[0] < counts[1]


@pytest.mark.parametrize("status", [400, 504])
def test_a_period_that_dixa_refuses_is_absent_and_its_day_is_loaded(
    status: int, simulator: Simulator, warehouse: Warehouse
) -> None:
    spec = metric("csat")
    load_days(simulator.url, warehouse, spec, [SUNDAY])
    assert len(selected(warehouse, TOTALS)) == 1
    # The first request is the day's. The client tries a request that can be repeated 8 times.
    simulator.tell("faults", kind="status", status=status, id="csat", skip=1, times=8, body="{}")
    (loaded,) = load_days(simulator.url, warehouse, spec, [SUNDAY])
    assert loaded.counts.rows == 1
    assert selected(warehouse, TOTALS) == []
    assert len(selected(warehouse, "SELECT measure, value FROM dixa_metrics.csat")) == 1


def test_views_show_weeks_from_the_weekday_that_was_loaded_last(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    # A week from Monday ends on the last of these days, a week from Sunday on the day before.
    for first_weekday, days in (("monday", WEEK), ("sunday", WEEK[:6]), ("monday", WEEK)):
        spec = metric("csat", periods=("week",), week_starts_on=first_weekday)
        load_days(simulator.url, warehouse, spec, days)
        weeks = "SELECT dayname(first_day), metric FROM dixa.metrics_weekly"
        assert selected(warehouse, weeks) == [(first_weekday.title(), "csat")]
    assert selected(warehouse, "SELECT metric, value FROM dixa.metrics_monthly") == []


def test_a_reload_replaces_the_periods_of_its_metric_alone(
    simulator: Simulator, world: World, warehouse: Warehouse
) -> None:
    metrics = ("csat", "closed_conversations")
    for name in (*metrics, *metrics):
        load_days(simulator.url, warehouse, metric(name), days_from(MONDAY, 7, COPENHAGEN))
    found = warehouse.query(
        "SELECT asset_key, periods::VARCHAR AS periods FROM dixa_catalogue.loads "
        "WHERE periods::VARCHAR <> '[]' ORDER BY ALL"
    )
    assert found.to_numpy().tolist() == [
        [f"dixa_metrics/{name}", '["week"]'] for name in sorted(metrics)
    ]
    rows = selected(warehouse, f"{TOTALS} ORDER BY ALL")
    assert len(rows) == period_rows_of(world, metrics, str(SUNDAY)).total() == 2
    assert Rows(rows).most_common(1)[0][1] == 1


@pytest.mark.file
def test_periods_of_a_dropped_table_are_missing(simulator: Simulator, warehouse: Warehouse) -> None:
    load_days(simulator.url, warehouse, metric("csat"), [SUNDAY])
    with duckdb.connect(str(warehouse.path)) as connection:
        connection.execute("DROP TABLE dixa_metrics.period_values")
    load_days(simulator.url, warehouse, metric("ratings_received"), [SUNDAY])
    held = warehouse.inventory().loads
    assert not held["dixa_metrics/csat"][str(SUNDAY)].periods
    assert held["dixa_metrics/ratings_received"][str(SUNDAY)].periods == {"week"}
