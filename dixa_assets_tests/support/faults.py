"""A few assets and days under faults: what is there, what was asked, and what the run said."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.world import World
from dixa_assets.warehouse.sql import Query
from dixa_assets_tests.support.scenario import (
    component,
    failure_of,
    flat,
    load,
    midnight,
    stored,
    tampered,
    truth,
)
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Json, Simulator

CSAT, NPS = "dixa_metrics/csat", "dixa_metrics/nps"
RATINGS, MESSAGES = "dixa_records/ratings", "dixa_records/messages_sent"
KEYS = (CSAT, RATINGS, MESSAGES)
# On each of these days the messages fill two pages, and everything else fits into one.
FIRST, FAULTY, LAST = DAYS = ("2025-11-04", "2025-11-05", "2025-11-06")
# How often a request is sent before it is given up.
TRIES = 8
ROW = {"primaryTimestampField": {"name": "at", "timestamp": "2025-11-05T09:00:00.000Z"}}


def few(simulator: Simulator, folder: Path, **attributes: Any) -> DixaAnalytics:
    """A component of four assets that asks for one day after the other."""
    ids = ["csat", "nps", "ratings", "messages_sent"]
    return component(simulator, folder, **{"windows_at_a_time": 1, "include": ids} | attributes)


def ask_for_days_alone(analytics: DixaAnalytics) -> None:
    """Make the log say that rows lay outside their day, so that days are not asked for together."""
    tampered(analytics, "UPDATE dixa_catalogue.loads SET rows_outside_window = 1")


# What is there, and what should be


def held(analytics: DixaAnalytics, *keys: str) -> dict[tuple[str, str], list[str]]:
    """Rows and lines in the load log by asset and day, each with its run and instant."""
    found: dict[tuple[str, str], list[str]] = {}
    with analytics.build_warehouse().reading() as query:
        for key in keys or KEYS:
            rows = query(
                "SELECT partition_date::VARCHAR AS day, one::VARCHAR AS row "
                f"FROM {key.replace('/', '.')} AS one UNION ALL "
                "SELECT partition_date::VARCHAR, one::VARCHAR FROM dixa_catalogue.loads AS one "
                "WHERE asset_key = ? ORDER BY ALL",
                [key],
            )
            for day, row in rows:
                found.setdefault((key, day), []).append(row)
    return found


def rows_of(world: World, name: str, day: str) -> list[Json]:
    """The simulator's rows of a record's day, as its API sends them."""
    start = midnight(date.fromisoformat(day), COPENHAGEN)
    end = midnight(date.fromisoformat(day) + timedelta(days=1), COPENHAGEN)
    return [row.to_api() for row in world.rows(name, start=start, end=end, now=NOW)]


def expected(world: World, key: str, day: str) -> Any:
    """What the simulator holds of an asset's day."""
    schema, name = key.split("/")
    if schema == "dixa_records":
        return sorted(map(flat, rows_of(world, name, day)))
    start = midnight(date.fromisoformat(day), COPENHAGEN)
    end = midnight(date.fromisoformat(day) + timedelta(days=1), COPENHAGEN)
    return truth(world.aggregate(name, start=start, end=end, now=NOW))


def contents(query: Query, key: str, day: str) -> Any:
    """What the database holds of an asset's day, in the form of `expected`."""
    schema, name = key.split("/")
    if schema == "dixa_records":
        return stored(query, name, day)
    rows = query(
        "SELECT measure, status, value FROM dixa.metrics_daily "
        "WHERE metric = ? AND partition_date = ?",
        [name, day],
    )
    values = {(row.measure, row.status): row.value for row in rows}
    assert len(values) == len(rows)
    return values


def assert_equal(
    analytics: DixaAnalytics, world: World, *keys: str, days: Sequence[str] = DAYS
) -> None:
    """Every row of some days is the simulator's, and there is no other."""
    with analytics.build_warehouse().reading() as query:
        for key in keys or KEYS:
            for day in days:
                assert contents(query, key, day) == expected(world, key, day), (key, day)


def assert_whole(
    analytics: DixaAnalytics, world: World, *keys: str, days: Sequence[str] = DAYS
) -> None:
    """Some assets have these days, each with the simulator's rows, and no other day."""
    assert set(held(analytics, *keys)) == {(key, day) for key in keys or KEYS for day in days}
    assert_equal(analytics, world, *keys, days=days)


def noted(analytics: DixaAnalytics, key: str, what: str) -> dict[str, int]:
    """A column of the load log, by day."""
    rows = analytics.build_warehouse().query(
        f"SELECT partition_date::VARCHAR AS day, {what} AS n FROM dixa_catalogue.loads "
        "WHERE asset_key = ?",
        [key],
    )
    return dict(zip(rows.day, rows.n, strict=True))


# What was asked, and what was said


def asked(simulator: Simulator, key: str) -> list[str]:
    """The local days an asset's requests were about, in order."""
    schema, name = key.split("/")
    operation = "postAnalyticsMetrics" if schema == "dixa_metrics" else "postAnalyticsRecords"
    starts = [
        datetime.fromisoformat(request["body"]["periodFilter"]["start"])
        for request in simulator.requests()
        if request["operation"] == operation and request["body"]["id"] == name
    ]
    return [(start + timedelta(hours=2)).date().isoformat() for start in starts]


def pages_asked(simulator: Simulator, day: str) -> list[bool]:
    """For each request about a day of the messages, whether it had a page key."""
    start = midnight(date.fromisoformat(day), COPENHAGEN)
    return [
        "pageKey" in request["query"]
        for request in simulator.requests()
        if request["operation"] == "postAnalyticsRecords"
        and datetime.fromisoformat(request["body"]["periodFilter"]["start"]) == start
    ]


def step(key: str) -> str:
    return key.replace("/", "__")


def failed_steps(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.step_key for event in result.get_step_failure_events() if event.step_key}


def can_retry(result: dg.ExecuteInProcessResult, key: str) -> Any:
    """What the run's page says about another try."""
    [failure] = [e for e in result.get_step_failure_events() if e.step_key == step(key)]
    assert failure.step_failure_data.user_failure_data is not None
    return failure.step_failure_data.user_failure_data.metadata["a retry can help"].value


def again(analytics: DixaAnalytics, catalogue: Catalogue, *keys: str) -> dg.ExecuteInProcessResult:
    """Load the three days once more."""
    return load(analytics, keys or KEYS, FIRST, LAST, catalogue=catalogue)


def assert_one_day_failed(result: dg.ExecuteInProcessResult, key: str, cause: str) -> None:
    assert failed_steps(result) == {step(key)}
    said = failure_of(result, step(key))
    assert said.startswith(f"1 of 3 days failed ({FAULTY}) and are as they were. {FAULTY}: ")
    assert cause in said
    assert f"'{key.split('/')[1]}'" in said
