"""A few assets and days under faults: their rows, the requests, and the run's messages."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.scenario import component, failure_of, load, midnight, tampered
from dixa_assets_tests.support.simulator import COPENHAGEN, Simulator
from dixa_assets_tests.support.truth import assert_equal

CSAT, NPS = "dixa_metrics/csat", "dixa_metrics/nps"
RATINGS, MESSAGES = "dixa_records/ratings", "dixa_records/messages_sent"
KEYS = (CSAT, RATINGS, MESSAGES)
# On each of these days the messages fill two pages, and everything else fits into one.
FIRST, FAULTY, LAST = DAYS = ("2025-11-04", "2025-11-05", "2025-11-06")
# Tries of one request.
TRIES = 8
ROW = {"primaryTimestampField": {"name": "at", "timestamp": "2025-11-05T09:00:00.000Z"}}


def few(simulator: Simulator, folder: Path, **attributes: Any) -> DixaAnalytics:
    """A component of four assets that requests one day after the other."""
    ids = ["csat", "nps", "ratings", "messages_sent"]
    return component(simulator, folder, **{"windows_at_a_time": 1, "include": ids} | attributes)


def ask_for_days_alone(analytics: DixaAnalytics) -> None:
    """Log rows outside their day, so that the loader requests each day alone."""
    tampered(analytics, "UPDATE dixa_catalogue.loads SET rows_outside_window = 1")


# The database


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
            for day, row in zip(rows.day, rows.row, strict=True):
                found.setdefault((key, day), []).append(row)
    return found


def assert_whole(
    analytics: DixaAnalytics, world: World, *keys: str, days: Sequence[str] = DAYS
) -> None:
    """Some assets have these days, each with the simulator's rows, and no other day."""
    assert set(held(analytics, *keys)) == {(key, day) for key in keys or KEYS for day in days}
    assert_equal(analytics, world, *(keys or KEYS), days=days)


def noted(analytics: DixaAnalytics, key: str, what: str) -> dict[str, int]:
    """A column of the load log, by day."""
    rows = analytics.build_warehouse().query(
        f"SELECT partition_date::VARCHAR AS day, {what} AS n FROM dixa_catalogue.loads "
        "WHERE asset_key = ?",
        [key],
    )
    return dict(zip(rows.day, rows.n, strict=True))


# The requests and the run


def asked(simulator: Simulator, key: str) -> list[str]:
    """The local day of each request for an asset, in order."""
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
    """Whether the run's page says that a retry can help."""
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
