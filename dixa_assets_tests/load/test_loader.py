"""Days come together, alone or in parts, ahead of time, and always with the same rows."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.requests import Request
from dixa_assets.component import DixaAnalytics
from dixa_assets.load.loader import READ_AHEAD, Loader, Task
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import relation_of
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.days import windows
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.scenario import (
    component,
    days,
    failure_of,
    fetched,
    load,
    tampered,
)
from dixa_assets_tests.support.simulator import KEY, Simulator
from dixa_assets_tests.support.truth import assert_equal, sent_rows

RATINGS, MESSAGES = "dixa_records/ratings", "dixa_records/messages_sent"


# The same rows, whichever way


def requests_for(simulator: Simulator, record: str) -> list[dict[str, Any]]:
    """First pages asked for of a record."""
    return [
        request["body"]["periodFilter"]
        for request in simulator.requests()
        if request["body"] and request["body"]["id"] == record and "pageKey" not in request["query"]
    ]


def assert_true(analytics: DixaAnalytics, world: World, record: str, *between: str) -> None:
    """The days of a record hold what the simulator holds."""
    assert_equal(analytics, world, f"dixa_records/{record}", days=days(*between))


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Europe/Copenhagen", "2025-10-20", "2025-11-02"),
        ("America/Santiago", "2025-09-01", "2025-09-14"),
        ("Africa/Cairo", "2025-04-20", "2025-05-03"),
    ],
)
def test_days_that_share_a_request_get_the_rows_they_get_alone(
    zone: str, first: str, last: str, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, timezone=zone, start_date="2025-01-01")
    assert load(analytics, [RATINGS], "2025-08-01", "2025-08-03").success
    simulator.forget_requests()
    assert load(analytics, [RATINGS], first, last).success
    assert len(requests_for(simulator, "ratings")) == 1
    assert_true(analytics, world, "ratings", first, last)
    loads = analytics.build_warehouse().query(
        "SELECT partition_date, rows, requests FROM dixa_catalogue.loads "
        "WHERE partition_date BETWEEN ? AND ? ORDER BY partition_date",
        [first, last],
    )
    assert len(loads) == len(days(first, last))
    assert loads.requests.tolist() == [len(simulator.requests()) - 2] + [0] * (len(loads) - 1)


@pytest.mark.parametrize("day", ["2025-10-26", "2025-03-30", "2025-11-05"])
def test_a_dense_day_comes_in_parts_and_holds_the_rows_it_holds_in_one(
    day: str, simulator: Simulator, world: World, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, [MESSAGES], "2025-11-01").success
    tampered(analytics, "UPDATE dixa_catalogue.loads SET rows = 20_000")
    simulator.forget_requests()
    assert load(analytics, [MESSAGES], day).success
    assert len(requests_for(simulator, "messages_sent")) == 6
    assert_true(analytics, world, "messages_sent", day, day)
    found = analytics.build_warehouse().query(
        "SELECT rows, requests, rows_outside_window AS astray FROM dixa_catalogue.loads "
        "WHERE partition_date = ?",
        [day],
    )
    assert found.rows[0] == len(sent_rows(world, "messages_sent", day))
    assert (found.requests[0] >= 6, found.astray[0]) == (True, 0)


ASTRAY = """{"data": [{"primaryTimestampField":
    {"name": "created_at", "timestamp": "2025-07-04T09:00:00.000Z"}, "fields": []}]}"""


@pytest.mark.parametrize(
    ("fault", "most", "requests"),
    [
        ({"status": 200, "body": ASTRAY}, 1, 1 + 5),
        ({"status": 400, "body": '{"message":"period too long"}'}, 2, 1 + 3),
    ],
    ids=["a row outside", "a refusal"],
)
def test_days_refused_together_are_asked_for_in_smaller_periods_and_the_log_says_so(
    fault: dict[str, Any],
    most: int,
    requests: int,
    simulator: Simulator,
    world: World,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    analytics = component(simulator, tmp_path)
    assert load(analytics, [RATINGS], "2025-10-01", "2025-10-02").success
    simulator.tell("faults", kind="status", operation="postAnalyticsRecords", times=1, **fault)
    simulator.forget_requests()
    with caplog.at_level(logging.WARNING, logger="dixa_assets"):
        assert load(analytics, [RATINGS], "2025-11-01", "2025-11-05").success
    assert len(requests_for(simulator, "ratings")) == requests
    assert_true(analytics, world, "ratings", "2025-11-01", "2025-11-05")
    (said,) = [
        record.message for record in caplog.records if record.name == "dixa_assets.load.loader"
    ]
    assert "dixa_records/ratings" in said
    assert f"5 days could not be fetched together; a request covers {most} at most now" in said


def test_once_a_row_lay_outside_its_day_the_record_is_asked_for_day_by_day(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    simulator.tell(
        "faults", kind="status", status=200, body=ASTRAY, operation="postAnalyticsRecords", times=1
    )
    assert load(analytics, [RATINGS], "2025-10-01").success
    for _ in range(2):
        simulator.forget_requests()
        assert load(analytics, [RATINGS], "2025-11-01", "2025-11-05").success
        assert len(requests_for(simulator, "ratings")) == 5


def test_a_day_that_fails_alone_keeps_none_of_its_neighbours_from_loading(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path, windows_at_a_time=1)
    assert load(analytics, [RATINGS], "2025-10-01").success
    simulator.tell(
        "faults", kind="status", status=400, body="no", operation="postAnalyticsRecords", times=5
    )
    result = load(analytics, [RATINGS], "2025-11-01", "2025-11-05")
    assert "3 of 5 days failed (2025-11-01, 2025-11-02, 2025-11-03)" in failure_of(
        result, "dixa_records__ratings"
    )
    loaded = analytics.build_warehouse().query(
        "SELECT partition_date::VARCHAR AS day FROM dixa_catalogue.loads ORDER BY 1"
    )
    assert loaded.day.tolist() == ["2025-10-01", "2025-11-04", "2025-11-05"]


# Ahead of time


@contextmanager
def loader(simulator: Simulator, warehouse: Warehouse) -> Iterator[Loader]:
    client = DixaClient(KEY, base_url=simulator.url, requests_per_second=100_000, burst=1000)
    with closing(Loader(lambda: client, warehouse, at_a_time=2)) as made:
        yield made


def task_of(entry: Entry, number: int) -> Task:
    days = windows(date(2025, 11, 1), number)
    return Task(entry, relation_of(entry), lambda _: Request(entry), days)


@pytest.fixture
def catalogue(simulator: Simulator, tmp_path: Path) -> Catalogue:
    return fetched(component(simulator, tmp_path))


def test_the_next_asset_is_fetched_while_the_last_days_of_one_are_written(
    simulator: Simulator, warehouse: Warehouse, catalogue: Catalogue
) -> None:
    entries = {entry.id: entry for entry in catalogue.entries if entry.kind == "metric"}
    first, second = (task_of(entries[each], 3) for each in ("csat", "nps"))
    with loader(simulator, warehouse) as made:
        days_of_first = made.load(first, run_id="a-run", upcoming=[second])
        next(days_of_first)
        wait_until(
            lambda: requests_of(simulator, "nps"), seconds=10, what="the next asset's request"
        )
        assert len(list(days_of_first)) == 2
        assert len(list(made.load(second, run_id="a-run"))) == 3
    assert len(requests_of(simulator, "csat")) == len(requests_of(simulator, "nps")) == 3


def test_no_more_is_fetched_ahead_than_can_soon_be_written(
    simulator: Simulator, warehouse: Warehouse, catalogue: Catalogue
) -> None:
    entries = {entry.id: entry for entry in catalogue.entries if entry.kind == "metric"}
    first, second = task_of(entries["csat"], 2), task_of(entries["nps"], READ_AHEAD + 9)
    with loader(simulator, warehouse) as made:
        days_of_first = made.load(first, run_id="a-run", upcoming=[second])
        next(days_of_first)
        wait_until(
            lambda: len(requests_of(simulator, "nps")) >= READ_AHEAD - 2,
            seconds=20,
            what="requests ahead",
        )
        days_of_first.close()
    assert len(requests_of(simulator, "nps")) <= READ_AHEAD


def test_of_a_record_no_more_is_asked_for_than_decides_how_to_ask_for_the_rest(
    simulator: Simulator, warehouse: Warehouse, catalogue: Catalogue
) -> None:
    entries = {entry.id: entry for entry in catalogue.entries}
    first = task_of(entries["csat"], 2)
    second = replace(task_of(entries["ratings"], 0), days=windows(date(2025, 10, 10), 25))
    with loader(simulator, warehouse) as made:
        assert len(list(made.load(first, run_id="a-run", upcoming=[second]))) == 2
        assert len(list(made.load(second, run_id="a-run"))) == 25
    assert 4 < len(requests_of(simulator, "ratings")) < 15


def test_assets_of_one_request_each_are_fetched_ahead_together(
    simulator: Simulator, warehouse: Warehouse, catalogue: Catalogue
) -> None:
    metrics = [entry for entry in catalogue.entries if entry.kind == "metric"][:12]
    first, *upcoming = [task_of(entry, 1) for entry in metrics]
    with loader(simulator, warehouse) as made:
        next(made.load(first, run_id="a-run", upcoming=upcoming))
        wait_until(
            lambda: all(requests_of(simulator, entry.id) for entry in metrics),
            seconds=10,
            what="a request for each of them",
        )


def test_what_was_fetched_ahead_and_never_wanted_is_gone_with_the_loader(
    simulator: Simulator, warehouse: Warehouse, catalogue: Catalogue
) -> None:
    entries = {entry.id: entry for entry in catalogue.entries if entry.kind == "metric"}
    first, second = (task_of(entries[each], 3) for each in ("csat", "nps"))
    with loader(simulator, warehouse) as made:
        next(made.load(first, run_id="a-run", upcoming=[second]))
        wait_until(lambda: requests_of(simulator, "nps"), seconds=10, what="a request ahead")
    assert list(Path(f"{warehouse.path}.staging").iterdir()) == []
    found = warehouse.query("SELECT DISTINCT asset_key FROM dixa_catalogue.loads")
    assert found.asset_key.tolist() == ["dixa_metrics/csat"]


def requests_of(simulator: Simulator, entry_id: str) -> list[dict[str, Any]]:
    return [
        request
        for request in simulator.requests()
        if request["body"] and request["body"]["id"] == entry_id
    ]
