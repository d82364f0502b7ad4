"""Each day is requested alone, ahead of the writes, and stored with the rows that it has."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from dixa_assets.errors import ConfigError, DaysFailed
from dixa_assets.load import loader as loader_module
from dixa_assets.load.loader import DAYS_PER_THREAD, Loader
from dixa_assets.load.queue import FAILED_DAYS_BEFORE_STOPPING, Task
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import days_from
from dixa_assets.model.options import LoadSpec
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.days import rows_of
from dixa_assets_tests.support.loading import load_days, loader_for
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import COPENHAGEN, MILLISECOND, NOW, Simulator
from dixa_assets_tests.support.staged import spec_of
from dixa_assets_tests.support.truncating import TruncatingVendor

FIRST = date(2025, 11, 1)
DAYS = days_from(FIRST, 3, COPENHAGEN)
RATINGS = spec_of("record", "ratings")


def task_of(metric_id: str, days: int = 3) -> Task:
    return Task(spec_of("metric", metric_id), days_from(FIRST, days, COPENHAGEN))


def requests_for(simulator: Simulator, entry_id: str) -> list[dict[str, Any]]:
    """The requests for data of an entry, oldest first."""
    return [
        request
        for request in simulator.requests()
        if request["body"] and request["body"]["id"] == entry_id
    ]


def loaded_days(warehouse: Warehouse, key: str = "dixa_records/ratings") -> dict[str, int]:
    """The days of an asset in the load log, with their rows."""
    log = warehouse.query(
        "SELECT partition_date::DATE::VARCHAR AS day, rows FROM dixa_catalogue.loads "
        "WHERE asset_key = ? ORDER BY day",
        [key],
    )
    return dict(zip(log.day, log["rows"], strict=True))


# A day.


@pytest.mark.parametrize(
    ("zone", "hours", "first"),
    [
        ("Europe/Copenhagen", 23, date(2025, 3, 29)),
        ("Europe/Copenhagen", 25, date(2025, 10, 25)),
        ("America/Santiago", 23, date(2025, 9, 6)),
        ("Africa/Cairo", 25, date(2025, 10, 29)),
        ("Australia/Lord_Howe", 24.5, date(2025, 4, 5)),
        ("Australia/Lord_Howe", 23.5, date(2024, 10, 5)),
    ],
)
def test_each_day_is_requested_alone_and_has_the_simulators_rows(
    zone: str, hours: float, first: date, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path / "zone.duckdb", WarehouseSettings(timezone=zone))
    days = days_from(first, 3, zone)
    loaded = load_days(simulator.url, warehouse, spec_of("record", "messages_sent", zone), days)
    assert days[1].hours == hours
    assert [one.day for one in loaded] == days
    found = warehouse.query(
        "SELECT partition_date::DATE::VARCHAR AS day, primary_timestamp AS at, message_id "
        "FROM dixa_records.messages_sent"
    )
    expected = [
        (str(day), row.at, str(row.field("message_id")))
        for day in days
        for row in rows_of(world, "messages_sent", day)
    ]
    assert sorted(map(tuple, found.to_numpy().tolist())) == sorted(expected)
    requests = Counter(
        datetime.fromisoformat(one["body"]["periodFilter"]["start"])
        for one in requests_for(simulator, "messages_sent")
    )
    for day in days:
        # A request includes midnight at the end of its day.
        end = day.period.end + MILLISECOND
        rows = world.rows("messages_sent", start=day.period.start, end=end, now=NOW)
        assert requests.pop(day.period.start) == -(-len(rows) // 300)
    assert not requests


def test_days_are_stored_in_order_when_their_answers_arrive_out_of_order(
    warehouse: Warehouse,
) -> None:
    vendor = TruncatingVendor([day.period.start for day in DAYS])
    is_last_answered, is_first_stored = Event(), Event()

    def answer(request: Request) -> Response:
        start = datetime.fromisoformat(request.json()["periodFilter"]["start"])
        if start == DAYS[0].period.start:
            assert is_last_answered.wait(10)
        elif start == DAYS[1].period.start:
            assert is_first_stored.wait(10)
        else:
            is_last_answered.set()
        return vendor.answer(request)

    task = Task(LoadSpec(Entry("record", "events", "events"), COPENHAGEN), DAYS)
    with serve(answer) as server, loader_for(server.url, warehouse, threads=3) as loader:
        loaded = loader.load(task, run_id="a-run")
        first = next(loaded)
        is_first_stored.set()
        assert [(one.day, one.counts.rows) for one in (first, *loaded)] == [
            (day, 1) for day in DAYS
        ]


def test_a_failed_day_keeps_its_rows_and_the_other_days_are_loaded(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    load_days(simulator.url, warehouse, RATINGS, DAYS[1:2])
    before = loaded_days(warehouse)
    simulator.tell("faults", kind="status", status=400, body="no", id="ratings", skip=1, times=1)
    with pytest.raises(DaysFailed, match=r"1 of 3 days failed \(2025-11-02\).*400"):
        load_days(simulator.url, warehouse, RATINGS, DAYS, threads=1)
    after = loaded_days(warehouse)
    assert [*after] == [str(day) for day in DAYS]
    assert after[str(DAYS[1])] == before[str(DAYS[1])] > 0
    stored = warehouse.query(
        "SELECT partition_date::DATE::VARCHAR AS day, count(*) AS rows FROM dixa_records.ratings "
        "GROUP BY day"
    )
    assert dict(zip(stored.day, stored["rows"], strict=True)) == after


@pytest.mark.parametrize(("status", "failed"), [(400, FAILED_DAYS_BEFORE_STOPPING), (401, 1)])
def test_after_hopeless_or_many_errors_the_other_days_are_not_requested(
    status: int, failed: int, simulator: Simulator, warehouse: Warehouse
) -> None:
    simulator.tell("faults", kind="status", status=status, id="ratings")
    with pytest.raises(DaysFailed) as caught:
        load_days(simulator.url, warehouse, RATINGS, days_from(FIRST, 30, COPENHAGEN), threads=1)
    requests = len(requests_for(simulator, "ratings"))
    assert failed <= len(caught.value.failed) == requests <= failed + DAYS_PER_THREAD
    assert f"{30 - requests} more were not requested" in str(caught.value)


def test_a_request_that_cannot_be_built_is_one_error(
    simulator: Simulator, warehouse: Warehouse
) -> None:
    spec = spec_of("record", "ratings", filters={"colour": ["red"]})
    with pytest.raises(ConfigError, match="'colour' is not one of its filter attributes"):
        load_days(simulator.url, warehouse, spec, DAYS)
    assert simulator.requests() == []


# Ahead of the writes.


@pytest.fixture
def loader(simulator: Simulator, warehouse: Warehouse) -> Iterator[Loader]:
    with loader_for(simulator.url, warehouse) as loader:
        yield loader


def test_the_next_asset_is_fetched_while_days_of_the_first_are_not_written(
    simulator: Simulator, loader: Loader
) -> None:
    first, second = task_of("csat"), task_of("nps")
    loaded = loader.load(first, run_id="a-run", upcoming=[second])
    next(loaded)
    wait_until(lambda: requests_for(simulator, "nps"), what="a request ahead")
    assert len([*loaded]) == 2
    assert len([*loader.load(second, run_id="a-run")]) == 3
    assert len(requests_for(simulator, "csat")) == len(requests_for(simulator, "nps")) == 3


def test_assets_of_one_day_each_are_fetched_ahead_together(
    simulator: Simulator, loader: Loader
) -> None:
    metrics = ("csat", "nps", "handling_time", "message_length", "rating_score")
    first, *upcoming = (task_of(metric, days=1) for metric in metrics)
    next(loader.load(first, run_id="a-run", upcoming=upcoming))
    wait_until(
        lambda: all(requests_for(simulator, metric) for metric in metrics),
        what="a request for each metric",
    )


@pytest.mark.parametrize(
    ("limit", "value", "least", "most"),
    [("MAX_DAYS_AHEAD", 12, 12, 12), ("MAX_BYTES_AHEAD", 1, 1, 2 * DAYS_PER_THREAD)],
)
def test_days_ahead_are_limited_in_number_and_bytes(
    limit: str,
    value: int,
    least: int,
    most: int,
    simulator: Simulator,
    loader: Loader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader_module, limit, value)
    first, second = task_of("csat", days=2), task_of("nps", days=40)
    assert len([*loader.load(first, run_id="a-run", upcoming=[second])]) == 2
    wait_until(lambda: len(requests_for(simulator, "nps")) >= least, what="requests ahead")
    assert len(requests_for(simulator, "nps")) <= most
    # The limits do not stop the asset that is loaded now, whether or not it was fetched ahead.
    third = task_of("handling_time")
    assert len([*loader.load(third, run_id="a-run", upcoming=[second])]) == 3
    assert len([*loader.load(second, run_id="a-run")]) == 40


def test_days_that_were_fetched_ahead_and_not_loaded_are_discarded(
    simulator: Simulator, loader: Loader, warehouse: Warehouse
) -> None:
    next(loader.load(task_of("csat"), run_id="a-run", upcoming=[task_of("nps")]))
    wait_until(lambda: requests_for(simulator, "nps"), what="a request ahead")
    loader.close()
    assert [*Path(f"{warehouse.path}.staging").iterdir()] == []
    assert loaded_days(warehouse, "dixa_metrics/csat")
    assert not loaded_days(warehouse, "dixa_metrics/nps")
