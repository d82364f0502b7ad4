"""Every fault through the whole load: what is written, what the run says, what is asked again."""

import json
import os
import re
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest

from dixa_assets.catalogue import Catalogue
from dixa_assets.client import DixaClient
from dixa_assets.component import DixaAnalytics
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets.warehouse import Query
from dixa_assets_tests.support.processes import child, free_port, hold
from dixa_assets_tests.support.scenario import (
    component,
    days,
    failure_of,
    fetched,
    flat,
    load,
    midnight,
    stored,
    tampered,
    truth,
)
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, NOW, Simulator

pytestmark = pytest.mark.slow

Json = dict[str, Any]

CSAT, NPS = "dixa_metrics/csat", "dixa_metrics/nps"
RATINGS, MESSAGES = "dixa_records/ratings", "dixa_records/messages_sent"
KEYS = (CSAT, RATINGS, MESSAGES)
# On each of these days the messages fill two pages, and everything else fits into one.
FIRST, FAULTY, LAST = DAYS = ("2025-11-04", "2025-11-05", "2025-11-06")
# How often a request is sent before it is given up.
TRIES = 8


@pytest.fixture(scope="module")
def all_waits() -> Iterator[list[float]]:
    """What clients were to wait between tries; they wait no longer than a moment."""
    asked: list[float] = []

    def sleep(_: DixaClient, seconds: float) -> None:
        asked.append(seconds)
        time.sleep(min(seconds, 0.02))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DixaClient, "_sleep", sleep)
        yield asked


@pytest.fixture(autouse=True)
def waits(all_waits: list[float]) -> list[float]:
    """The waits of one test."""
    all_waits.clear()
    return all_waits


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that take an answer for lost after 0.2 s."""
    make = DixaClient.__init__

    def make_impatient(client: DixaClient, *arguments: Any, **settings: Any) -> None:
        make(client, *arguments, **settings)
        client._http.timeout = 0.2

    monkeypatch.setattr(DixaClient, "__init__", make_impatient)


def few(simulator: Simulator, folder: Path, **attributes: Any) -> DixaAnalytics:
    """A component of four assets that asks for one day after the other."""
    ids = ["csat", "nps", "ratings", "messages_sent"]
    return component(simulator, folder, **{"windows_at_a_time": 1, "include": ids} | attributes)


def ask_for_days_alone(analytics: DixaAnalytics) -> None:
    """Make the log say that rows lay outside their day, so that days are not asked for together."""
    tampered(analytics, "UPDATE dixa_catalogue.loads SET rows_outside_window = 1")


@pytest.fixture(scope="module")
def catalogue(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The simulator's catalogue, fetched once."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return fetched(component(simulator_process, tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="module")
def loaded(
    simulator_process: Simulator, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A database with the three days of four assets, for tests to begin with a copy of it."""
    simulator_process.tell("reset", now=NOW.isoformat())
    analytics = few(simulator_process, tmp_path_factory.mktemp("loaded"))
    assert load(analytics, [*KEYS, NPS], FIRST, LAST, catalogue=catalogue).success
    ask_for_days_alone(analytics)
    return Path(analytics.duckdb_path)


@pytest.fixture
def analytics(loaded: Path, simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    """A component whose database holds the three days."""
    analytics = few(simulator, tmp_path)
    shutil.copy(loaded, analytics.duckdb_path)
    return analytics


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
            for day, row in zip(rows.day, rows.row, strict=True):
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
    statuses = [status if isinstance(status, str) else None for status in rows.status]
    pairs = list(zip(rows.measure, statuses, strict=True))
    assert len(pairs) == len(set(pairs))
    return dict(zip(pairs, rows.value, strict=True))


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


def assert_silent_about_the_key(result: dg.ExecuteInProcessResult) -> None:
    assert KEY not in "".join(map(str, result.all_events))


# Faults that pass, faults that last, and refusals

PASSING: dict[str, tuple[Json, str]] = {
    "500": ({"kind": "status", "status": 500}, "500"),
    "502 as text": (
        {"kind": "status", "status": 502, "body": "upstream is down", "content_type": "text/plain"},
        "502 Bad Gateway: upstream is down",
    ),
    "503 with the key in it": (
        {"kind": "status", "status": 503, "body": f'{{"message": "not you, {KEY}"}}'},
        r"503 Service Unavailable: not you, \*\*\*",
    ),
    "504 without a word": ({"kind": "status", "status": 504, "body": ""}, "504.*no message"),
    "408": ({"kind": "status", "status": 408}, "408"),
    "429": ({"kind": "status", "status": 429}, "429 Too Many Requests"),
    "429 with a wait": (
        {"kind": "status", "status": 429, "headers": {"Retry-After": "2"}},
        "429 Too Many Requests",
    ),
    "a page of HTML": ({"kind": "html"}, "200, text/html.*is not JSON"),
    "malformed JSON": ({"kind": "malformed_json"}, "is not JSON"),
    "NaN": ({"kind": "nan"}, "NaN is no JSON value"),
    "a connection reset": ({"kind": "reset"}, "no complete answer"),
    "a body cut short": ({"kind": "truncate"}, "no complete answer"),
}


ROW = {"primaryTimestampField": {"name": "at", "timestamp": "2025-11-05T09:00:00.000Z"}}
REFUSED: dict[str, tuple[Json, str]] = {
    "400": ({"kind": "status", "status": 400, "body": '{"message": "Invalid body"}'},
            "400 Bad Request: Invalid body"),
    "400 as text": (
        {"kind": "status", "status": 400, "body": "Invalid\n body", "content_type": "text/plain"},
        "400 Bad Request: Invalid body",
    ),
    "400 with the key in it": (
        {"kind": "status", "status": 400, "body": f"no {KEY}", "content_type": "text/plain"},
        r"400 Bad Request: no \*\*\*",
    ),
    "409": ({"kind": "status", "status": 409}, "409 Conflict"),
    "a redirect": (
        {"kind": "status", "status": 302, "headers": {"Location": "https://elsewhere.example"}},
        "302: redirected.*DIXA_BASE_URL",
    ),
    "a wait of a day": (
        {"kind": "status", "status": 429, "headers": {"Retry-After": "86400"}}, "86400 s",
    ),
    "JSON that is no object": ({"kind": "status", "status": 200, "body": "[]"}, "not an object"),
    "data that is no list": (
        {"kind": "status", "status": 200, "body": '{"data": 5}'}, "'data' is not a list",
    ),
    "a row without an instant": (
        {"kind": "status", "status": 200, "body": '{"data": [{"fields": []}]}'},
        "primaryTimestampField",
    ),
    "a number beyond any column": (
        {"kind": "status", "status": 200,
         "body": json.dumps({"data": [ROW]})[:-3] + ', "value": {"value": 1e999}}]}'},
        "a number is beyond any column",
    ),
    "a link to another host": ({"kind": "foreign_host"}, "another host .elsewhere.example."),
    "a link without a key": (
        {"kind": "status", "status": 200,
         "body": json.dumps({"data": [ROW], "meta": {"next": "/v1/analytics/records?page=2"}})},
        "no pageKey",
    ),
}  # fmt: skip


METRIC_FAULTS: dict[str, tuple[Json, str]] = {
    "no data": ({"kind": "missing_data"}, "no 'data' object"),
    "another metric's": (
        {"kind": "status", "status": 200, "body": '{"data": {"id": "nps", "aggregates": []}}'},
        "the answer is about 'nps'",
    ),
    "a count no DOUBLE can hold": (
        {"kind": "status", "status": 200, "body": json.dumps(
            {"data": {"aggregates": [{"measure": "Count", "value": 2**53 + 1}]}})},
        "too large",
    ),
}  # fmt: skip


# Each fault has an asset of its own. The records' passing faults come before their refusals.
RECORD_KEYS = [f"dixa_records/{name}" for name in RECORDS if name != "messages_sent"]
METRIC_KEYS = [f"dixa_metrics/{name}" for name in METRICS]
PASSING_FAULTS = dict(zip(RECORD_KEYS, PASSING.values(), strict=False))
LASTING_FAULTS = dict(zip(METRIC_KEYS, PASSING.values(), strict=False))
METRIC_REFUSALS = dict(zip(METRIC_KEYS[::-1], METRIC_FAULTS.values(), strict=False))
REFUSALS = dict(zip(RECORD_KEYS, REFUSED.values(), strict=False)) | METRIC_REFUSALS


@dataclass(frozen=True)
class Struck:
    """A load whose faults passed, the next one whose faults did not, and what was there between."""

    analytics: DixaAnalytics
    passed: dg.ExecuteInProcessResult
    waits: list[float]
    requests_passed: dict[str, list[str]]
    before: dict[tuple[str, str], list[str]]
    failed: dg.ExecuteInProcessResult
    requests_failed: dict[str, list[str]]
    after: dict[tuple[str, str], list[str]]


def strike(simulator: Simulator, faults: dict[str, tuple[Json, str]], times: int) -> None:
    """Set up each asset's fault: the first request for its second day, and its repeats."""
    for key, (fault, _) in faults.items():
        schema, name = key.split("/")
        operation = "postAnalyticsMetrics" if schema == "dixa_metrics" else "postAnalyticsRecords"
        simulator.tell("faults", operation=operation, id=name, skip=1, times=times, **fault)


@pytest.fixture(scope="module")
def struck(
    simulator_process: Simulator,
    catalogue: Catalogue,
    all_waits: list[float],
    tmp_path_factory: pytest.TempPathFactory,
) -> Struck:
    simulator_process.tell("reset", now=NOW.isoformat())
    analytics = component(simulator_process, tmp_path_factory.mktemp("struck"), windows_at_a_time=1)
    keys = [*PASSING_FAULTS, *LASTING_FAULTS, *METRIC_REFUSALS]
    all_waits.clear()
    strike(simulator_process, PASSING_FAULTS, times=2)
    passed = load(analytics, keys, FIRST, LAST, catalogue=catalogue)
    waits = list(all_waits)
    requests_passed = {key: asked(simulator_process, key) for key in keys}
    ask_for_days_alone(analytics)
    before = held(analytics, *keys)
    simulator_process.tell("reset", now=NOW.isoformat())
    strike(simulator_process, LASTING_FAULTS, times=TRIES)
    strike(simulator_process, REFUSALS, times=1)
    failed = load(analytics, keys, FIRST, LAST, catalogue=catalogue)
    return Struck(
        analytics=analytics,
        passed=passed,
        waits=waits,
        requests_passed=requests_passed,
        before=before,
        failed=failed,
        requests_failed={key: asked(simulator_process, key) for key in keys},
        after=held(analytics, *keys),
    )


@pytest.mark.parametrize("key", PASSING_FAULTS)
def test_a_fault_that_passes_costs_repeats_and_no_row(
    key: str, struck: Struck, world: World
) -> None:
    assert struck.passed.success
    assert struck.requests_passed[key] == [FIRST, FAULTY, FAULTY, FAULTY, LAST]
    events = struck.passed.asset_materializations_for_node(step(key))
    retries = {event.partition: event.metadata["retries"].value for event in events}
    assert retries == {FIRST: 0, FAULTY: 2, LAST: 0}
    assert_silent_about_the_key(struck.passed)
    assert_equal(struck.analytics, world, key)


def test_waits_between_tries_are_the_servers_where_it_asks_for_longer(struck: Struck) -> None:
    assert len(struck.waits) == 2 * len(PASSING_FAULTS)
    assert min(struck.waits) >= 0.5
    assert len([seconds for seconds in struck.waits if seconds >= 2]) == 2


def test_a_step_fails_for_each_asset_whose_fault_lasts_and_for_no_other(struck: Struck) -> None:
    assert failed_steps(struck.failed) == {step(key) for key in (*LASTING_FAULTS, *REFUSALS)}
    assert_silent_about_the_key(struck.failed)


@pytest.mark.parametrize("key", LASTING_FAULTS | REFUSALS)
def test_a_fault_that_stays_leaves_its_day_as_it_was_and_names_it(
    key: str, struck: Struck, world: World
) -> None:
    lasts = key in LASTING_FAULTS
    said = failure_of(struck.failed, step(key))
    assert said.startswith(f"1 of 3 days failed ({FAULTY}) and are as they were. {FAULTY}: ")
    assert f"'{key.split('/')[1]}'" in said or key in said
    assert re.search((LASTING_FAULTS | REFUSALS)[key][1], said)
    assert can_retry(struck.failed, key) is lasts
    assert struck.requests_failed[key] == [FIRST, *[FAULTY] * (TRIES if lasts else 1), LAST]
    assert struck.after[key, FAULTY] == struck.before[key, FAULTY]
    assert struck.after[key, FIRST] != struck.before[key, FIRST]
    assert struck.after[key, LAST] != struck.before[key, LAST]
    assert_equal(struck.analytics, world, key)


@pytest.mark.parametrize("name", ["503", "reset", "truncate"])
def test_a_fault_in_mid_window_has_that_page_asked_for_again_and_no_other(
    name: str, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    fault: Json = {"kind": "status", "status": 503} if name == "503" else {"kind": name}
    simulator.tell("faults", id="messages_sent", skip=3, times=2, **fault)
    assert load(analytics, [MESSAGES], FIRST, LAST, catalogue=catalogue).success
    assert pages_asked(simulator, FAULTY) == [False, True, True, True]
    assert noted(analytics, MESSAGES, "retries") == {FIRST: 0, FAULTY: 2, LAST: 0}
    assert noted(analytics, MESSAGES, "pages") == {FIRST: 2, FAULTY: 2, LAST: 2}
    assert_whole(analytics, world)


def again(analytics: DixaAnalytics, catalogue: Catalogue, *keys: str) -> dg.ExecuteInProcessResult:
    """Load the three days once more."""
    return load(analytics, keys or KEYS, FIRST, LAST, catalogue=catalogue)


def assert_one_day_failed(result: dg.ExecuteInProcessResult, key: str, cause: str) -> None:
    assert failed_steps(result) == {step(key)}
    said = failure_of(result, step(key))
    assert said.startswith(f"1 of 3 days failed ({FAULTY}) and are as they were. {FAULTY}: ")
    assert cause in said
    assert f"'{key.split('/')[1]}'" in said


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (503, 2 * TRIES)])
def test_a_retry_policy_repeats_only_what_a_repeat_can_mend(
    status: int, tries: int, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    definitions = analytics.build_definitions(catalogue)
    job = dg.define_asset_job(
        "patient",
        selection=[dg.AssetKey(CSAT.split("/"))],
        op_retry_policy=dg.RetryPolicy(max_retries=1),
    )
    simulator.tell("faults", kind="status", status=status, operation="postAnalyticsMetrics")
    dixa = analytics.build_dixa(KEY)
    result = (
        dg.Definitions(
            assets=definitions.assets,
            jobs=[job],
            resources=dict(definitions.resources or {}) | {"dixa": dixa},
        )
        .resolve_job_def("patient")
        .execute_in_process(partition_key=FIRST, raise_on_error=False)
    )
    assert not result.success
    assert len(asked(simulator, CSAT)) == tries


def test_a_key_refused_in_mid_run_ends_the_load_and_keeps_the_days_before(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics, CSAT)
    simulator.tell(
        "faults", kind="status", status=401, id="csat", skip=5, body='{"message": "Unauthorized"}'
    )
    result = load(analytics, [CSAT, NPS], "2025-10-31", "2025-11-10", catalogue=catalogue)
    assert failed_steps(result) == {step(CSAT)}
    said = failure_of(result, step(CSAT))
    assert f"{FAULTY}: POST /v1/analytics/metrics for 'csat': 401 Unauthorized" in said
    assert "DIXA_API_KEY" in said
    assert can_retry(result, CSAT) is False
    assert_silent_about_the_key(result)
    # The day that was on its way when the first refusal came is asked for too.
    assert asked(simulator, CSAT) == [str(day) for day in days("2025-10-31", LAST)]
    after = held(analytics, CSAT)
    new = tuple(str(day) for day in days("2025-10-31", FIRST))
    assert {day for _, day in after} == {*new, FAULTY, LAST}
    assert {day for key, day in after if after[key, day] != before.get((key, day))} == set(new)
    assert_whole(analytics, world, CSAT, days=(*new, FAULTY, LAST))
    every_day = [str(day) for day in days("2025-10-31", "2025-11-10")]
    assert_whole(analytics, world, NPS, days=every_day)


def test_the_vendors_limit_slows_a_load_and_costs_no_day(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World,
    waits: list[float],
) -> None:  # fmt: skip
    simulator.tell("settings", rate=40, burst=1, retry_after=1.7)
    assert again(analytics, catalogue).success
    assert_whole(analytics, world)
    refused = [request for request in simulator.requests() if request["status"] == 429]
    assert len(waits) == len(refused) > 0
    assert min(waits) >= 1.7
    assert sum(sum(noted(analytics, key, "retries").values()) for key in KEYS) == len(refused)


@pytest.mark.usefixtures("short_of_patience")
@pytest.mark.parametrize("times", [1, TRIES])
def test_an_answer_that_takes_too_long_is_asked_for_again_and_given_up_in_the_end(
    times: int, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="slow", seconds=0.5, id="ratings", skip=1, times=times)
    result = again(analytics, catalogue, RATINGS, CSAT)
    if times == TRIES:
        assert_one_day_failed(result, RATINGS, "ReadTimeout")
        assert can_retry(result, RATINGS) is True
    assert result.success == (times == 1)
    assert asked(simulator, RATINGS) == [FIRST, *[FAULTY] * min(times + 1, TRIES), LAST]
    is_as_it_was = held(analytics)[RATINGS, FAULTY] == before[RATINGS, FAULTY]
    assert is_as_it_was == (times == TRIES)
    assert_whole(analytics, world)


def test_nobody_listening_leaves_everything_as_it_was(
    analytics: DixaAnalytics, catalogue: Catalogue, tmp_path: Path
) -> None:
    before = held(analytics)
    nowhere = few(Simulator(f"http://127.0.0.1:{free_port()}"), tmp_path)
    result = again(nowhere, catalogue)
    assert failed_steps(result) == {step(key) for key in KEYS}
    for key in KEYS:
        said = failure_of(result, step(key))
        assert f"3 of 3 days failed ({FIRST}, {FAULTY}, {LAST})" in said
        assert "ConnectError" in said
        assert "Is the API reachable?" in said
        assert can_retry(result, key) is True
    assert held(analytics) == before


def test_a_metric_that_always_fails_keeps_none_of_the_others_out(
    simulator: Simulator, catalogue: Catalogue, tmp_path: Path, world: World
) -> None:
    everything = component(simulator, tmp_path)
    simulator.tell("faults", kind="status", status=500, operation="postAnalyticsMetrics", id="nps")
    result = load(everything, METRIC_KEYS + RECORD_KEYS, FAULTY, catalogue=catalogue)
    assert failed_steps(result) == {step(NPS)}
    assert "500" in failure_of(result, step(NPS))
    loaded = everything.build_warehouse().query("SELECT asset_key AS k FROM dixa_catalogue.loads")
    assert set(loaded.k) == {*METRIC_KEYS, *RECORD_KEYS} - {NPS}
    assert_equal(everything, world, *loaded.k, days=[FAULTY])


def test_after_five_failed_days_no_further_day_is_asked_for(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    before = held(analytics, CSAT)
    simulator.tell("faults", kind="status", status=400, operation="postAnalyticsMetrics")
    result = load(analytics, [CSAT], "2025-10-01", "2025-11-06", catalogue=catalogue)
    said = failure_of(result, step(CSAT))
    assert "2025-10-01, 2025-10-02, 2025-10-03, 2025-10-04, 2025-10-05" in said
    assert asked(simulator, CSAT) == [str(day) for day in days("2025-10-01", "2025-10-06")]
    assert held(analytics, CSAT) == before


# Odd answers that are taken for what they say


@pytest.mark.parametrize("content_type", ["text/plain", "text/html; charset=utf-8", ""])
def test_the_right_json_under_a_wrong_content_type_is_read(
    content_type: str, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    simulator.tell(
        "faults", kind="status", status=200, id="ratings", times=1, content_type=content_type,
        body=json.dumps({"data": [rating(1), rating(2)]}),
    )  # fmt: skip
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [1, 2]


@pytest.mark.parametrize("kind", ["null_meta", "next_on_empty_page"])
def test_an_odd_end_of_the_pages_costs_no_row(
    kind: str, simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind=kind, operation="postAnalyticsRecords", id="ratings")
    assert again(analytics, catalogue, RATINGS).success
    assert held(analytics)[RATINGS, FAULTY] != before[RATINGS, FAULTY]
    assert_whole(analytics, world)


def test_a_list_without_data_is_an_empty_day_as_the_vendors_schema_has_it(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    simulator.tell("faults", kind="missing_data", id="ratings", skip=1, times=1)
    assert again(analytics, catalogue, RATINGS).success
    assert noted(analytics, RATINGS, "rows")[FAULTY] == 0
    assert numbers_of(analytics) == []
    assert_equal(analytics, world, RATINGS, days=[FIRST, LAST])


def test_a_promised_page_without_data_leaves_the_day_as_it_was(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="missing_data", id="messages_sent", skip=3, times=1)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page that was promised came without 'data'")
    assert pages_asked(simulator, FAULTY) == [False, True]
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def test_values_of_unknown_types_are_kept_whole_as_json_beside_the_days_before(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    simulator.tell("faults", kind="unknown_type", id="ratings", times=1)
    assert load(analytics, [RATINGS, CSAT], FAULTY, catalogue=catalogue).success
    names = ("survey_id", "agent_id", "conversation_id", "answered_at")
    strange = '"_type": "HologramField", "depth": {"unit": "cm", "of": [1, 2]}'
    sent = [
        {one["name"]: one.get("field") for one in json.loads(fields)}
        for row in rows_of(world, "ratings", FAULTY)
        if (fields := re.sub(r'"_type": "\w+"', strange, json.dumps(row["fields"])))
    ]
    texts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
    query = analytics.build_warehouse().query
    kept = query(
        f"SELECT {texts} FROM dixa_records.ratings WHERE partition_date = ? ORDER BY rowid",
        [FAULTY],
    ).to_dict("records")
    assert len(kept) == len(sent) > 0
    for stored_row, sent_row in zip(kept, sent, strict=True):
        for name in names:
            if sent_row[name] is None:
                assert not isinstance(stored_row[name], str)
            else:
                assert json.loads(stored_row[name]) == sent_row[name]
    for day in (FIRST, LAST):
        found = query(
            "SELECT conversation_id::BIGINT AS n FROM dixa_records.ratings "
            "WHERE partition_date = ? ORDER BY rowid",
            [day],
        )
        assert list(found.n) == [
            one["field"]["value"]
            for row in rows_of(world, "ratings", day)
            for one in row["fields"]
            if one["name"] == "conversation_id"
        ]
    assert_whole(analytics, world, CSAT)


# Pages


def test_pages_that_go_in_a_circle_leave_the_day_as_it_was(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("settings", max_page_limit=100)
    # One refused page size, and the pages of the day before.
    ahead = 1 + -(-len(expected(world, MESSAGES, FIRST)) // 100)
    simulator.tell("faults", kind="repeated_key", id="messages_sent", skip=ahead, times=2)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page key came twice")
    assert can_retry(result, MESSAGES) is False
    assert pages_asked(simulator, FAULTY) == [False, True]
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


@pytest.mark.parametrize(("limit", "refused"), [(100, ["300"]), (50, ["300", "100"])])
def test_a_refused_page_size_costs_one_request_a_size_and_no_row(
    limit: int, refused: list[str], simulator: Simulator, analytics: DixaAnalytics,
    catalogue: Catalogue, world: World,
) -> None:  # fmt: skip
    before = held(analytics)
    simulator.tell("settings", max_page_limit=limit)
    assert again(analytics, catalogue, MESSAGES).success
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)
    requests = simulator.requests()
    assert [r["query"]["pageLimit"] for r in requests if r["status"] == 400] == refused


def test_a_page_key_that_expires_has_the_window_read_again_from_its_first_page(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=1)
    assert again(analytics, catalogue, MESSAGES).success
    assert pages_asked(simulator, FAULTY) == [False, True, False, True]
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)
    rows = noted(analytics, MESSAGES, "rows")
    assert rows == {day: len(expected(world, MESSAGES, day)) for day in DAYS}


def test_page_keys_that_go_on_expiring_fail_the_day_and_name_it(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=3)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "a page key it gave before was refused (400")
    assert pages_asked(simulator, FAULTY) == [False, True] * 3
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def test_a_row_inserted_while_pages_are_read_has_them_read_again_until_they_agree(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    simulator.tell("faults", kind="shift", id="messages_sent", skip=1, times=1)
    assert again(analytics, catalogue, MESSAGES).success
    assert len(pages_asked(simulator, FAULTY)) > len(pages_asked(simulator, LAST)) == 2
    assert held(analytics)[MESSAGES, FAULTY] != before[MESSAGES, FAULTY]
    assert_whole(analytics, world, MESSAGES)


def test_a_reading_that_no_other_confirms_fails_the_day(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    # The first reading ends with a refused key and the second holds a moved row, so there is none
    # that the third, though undisturbed, agrees with.
    simulator.tell("faults", kind="expired_key", id="messages_sent", skip=1, times=1)
    simulator.tell("faults", kind="shift", id="messages_sent", skip=1, times=1)
    result = again(analytics, catalogue, MESSAGES, CSAT)
    assert_one_day_failed(result, MESSAGES, "rows moved between pages")
    assert can_retry(result, MESSAGES) is True
    assert held(analytics)[MESSAGES, FAULTY] == before[MESSAGES, FAULTY]
    assert_whole(analytics, world)


def answer_pages(simulator: Simulator, readings: Sequence[Sequence[Sequence[Json]]]) -> None:
    """Answer the coming requests for ratings with these pages, reading by reading."""
    for pages in readings:
        for number, rows in enumerate(pages, 1):
            answer: Json = {"data": rows, "meta": {}}
            if number < len(pages):
                answer["meta"]["next"] = f"/v1/analytics/records?pageKey={number}"
            simulator.tell(
                "faults", kind="status", status=200, operation="postAnalyticsRecords",
                id="ratings", times=1, body=json.dumps(answer),
            )  # fmt: skip


def rating(number: int) -> Json:
    field = {"name": "conversation_id", "field": {"_type": "LongField", "value": number}}
    return {**ROW, "fields": [field]}


def numbers_of(analytics: DixaAnalytics) -> list[int]:
    rows = analytics.build_warehouse().query(
        "SELECT conversation_id AS n FROM dixa_records.ratings WHERE partition_date = ? "
        "ORDER BY rowid",
        [FAULTY],
    )
    return [int(number) for number in rows.n]


def test_rows_that_are_really_equal_come_twice_in_every_reading_and_are_kept(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    pages = [[rating(1), rating(2)], [rating(2), rating(2)], [rating(2), rating(3)]]
    answer_pages(simulator, [pages, pages])
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [1, 2, 2, 2, 2, 3]
    assert noted(analytics, RATINGS, "requests")[FAULTY] == 6


def test_a_row_that_moved_once_is_kept_once(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    moving = [[rating(1), rating(2)], [rating(2), rating(3)]]
    still = [[rating(0), rating(1)], [rating(2), rating(3)]]
    answer_pages(simulator, [moving, still, still])
    assert load(analytics, [RATINGS], FAULTY, catalogue=catalogue).success
    assert numbers_of(analytics) == [0, 1, 2, 3]


def test_rows_that_move_in_every_reading_fail_the_day(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue
) -> None:
    before = held(analytics)
    answer_pages(
        simulator, [[[rating(n), rating(n + 1)], [rating(n + 1), rating(n + 2)]] for n in range(3)]
    )
    result = load(analytics, [RATINGS], FAULTY, catalogue=catalogue)
    said = failure_of(result, step(RATINGS))
    assert f"({FAULTY})" in said
    assert "rows moved between pages in each of 3 readings" in said
    assert can_retry(result, RATINGS) is True
    assert held(analytics) == before


# The database


def load_and_tell(analytics: DixaAnalytics, catalogue: Catalogue, pipe: Connection) -> None:
    """Load the days and send, for each step that failed, what it said and whether it may retry."""
    result = again(analytics, catalogue)
    said: dict[str, tuple[str, Any]] = {}
    for event in result.get_step_failure_events():
        data, key = event.step_failure_data, str(event.step_key).replace("__", "/")
        if data.user_failure_data is None:
            said[key] = (f"not an error of this project: {data.error}", None)
        else:
            said[key] = (failure_of(result, step(key)), can_retry(result, key))
    pipe.send(said)


def load_with_small_files(url: str, folder: str, limit: int, pipe: Connection) -> None:
    """Load where no file may grow beyond a limit, as where the disk is full."""
    analytics = few(Simulator(url), Path(folder))
    catalogue = fetched(analytics)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    load_and_tell(analytics, catalogue, pipe)


# A file of so many bytes takes no row, the rows of no record, those of all but the messages, and
# all rows though not what the database writes of them.
@pytest.mark.parametrize("size", [300, 10_000, 60_000, 200_000])
def test_a_full_disk_fails_the_load_and_leaves_every_day_as_it_was(
    size: int, simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path, world: World
) -> None:
    before = held(analytics)
    with child(load_with_small_files, simulator.url, str(tmp_path), size) as (_, pipe):
        assert pipe.poll(60)
        said = pipe.recv()
    assert MESSAGES in said
    for words, retry in said.values():
        assert analytics.duckdb_path in words
        assert any(day in words for day in DAYS)
        assert "too large" in words
        assert retry is False
    after = held(analytics)
    assert {key for key, day in before if after[key, day] == before[key, day]} == set(said)
    assert_whole(analytics, world)


def load_without_rights(url: str, folder: str, pipe: Connection) -> None:
    """Load as a user who may read the database and not write it."""
    analytics = few(Simulator(url), Path(folder))
    catalogue = fetched(analytics)
    # Whatever is imported late must be there before the rights to read it are gone.
    with TemporaryDirectory() as elsewhere:
        assert load(
            few(Simulator(url), Path(elsewhere)), [CSAT], FIRST, catalogue=catalogue
        ).success
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    load_and_tell(analytics, catalogue, pipe)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
def test_a_database_that_may_not_be_written_is_named_and_left_as_it_was(
    folder_mode: int, loaded: Path, simulator: Simulator, world: World
) -> None:
    # Not below tmp_path, which pytest keeps to its owner.
    with TemporaryDirectory() as name:
        analytics = few(simulator, Path(name))
        path = Path(shutil.copy(loaded, analytics.duckdb_path))
        before = held(analytics)
        for each in path.parent.iterdir():
            each.chmod(0o444)
        path.parent.chmod(folder_mode)
        with child(load_without_rights, simulator.url, name) as (_, pipe):
            assert pipe.poll(60)
            said = pipe.recv()
        path.parent.chmod(0o755)
        for each in path.parent.iterdir():
            each.chmod(0o755 if each.is_dir() else 0o644)
        assert set(said) == set(KEYS)
        for words, retry in said.values():
            assert words.startswith("DIXA_DUCKDB_PATH: ")
            assert name in words
            assert retry is False
        assert held(analytics) == before


def test_a_database_open_elsewhere_is_waited_for(
    analytics: DixaAnalytics, catalogue: Catalogue, world: World
) -> None:
    before = held(analytics)
    with child(hold, analytics.duckdb_path) as (_, pipe), ThreadPoolExecutor() as pool:
        assert pipe.recv() == "held"
        loading = pool.submit(again, analytics, catalogue)
        with pytest.raises(TimeoutError):
            loading.result(timeout=5)
        pipe.send("let go")
        assert loading.result(timeout=60).success
    after = held(analytics)
    assert all(after[which] != before[which] for which in before)
    assert_whole(analytics, world)


def test_a_database_that_stays_open_elsewhere_is_reported_with_its_holder(
    simulator: Simulator, analytics: DixaAnalytics, catalogue: Catalogue, tmp_path: Path
) -> None:
    before = held(analytics)
    impatient = few(simulator, tmp_path, database_wait_seconds=0.3)
    with child(hold, analytics.duckdb_path) as (process, pipe):
        assert pipe.recv() == "held"
        holder = f"(process {process.pid})"
        result = again(impatient, catalogue)
    assert failed_steps(result) == {step(key) for key in KEYS}
    for key in KEYS:
        said = failure_of(result, step(key))
        assert holder in said
        assert analytics.duckdb_path in said
        assert can_retry(result, key) is True
    assert held(analytics) == before


def load_twice(url: str, folder: str, pipe: Connection) -> None:
    """Load the same days two times, and send each run with what failed."""
    analytics = few(Simulator(url), Path(folder))
    catalogue = fetched(analytics)
    pipe.send("ready")
    pipe.recv()
    for _ in range(2):
        result = again(analytics, catalogue)
        pipe.send((result.run_id, failed_steps(result)))


def test_two_processes_that_load_the_same_days_leave_one_version_of_each_whole(
    simulator: Simulator, analytics: DixaAnalytics, tmp_path: Path, world: World
) -> None:
    with (
        child(load_twice, simulator.url, str(tmp_path)) as (_, one),
        child(load_twice, simulator.url, str(tmp_path)) as (_, other),
    ):
        assert [pipe.recv() for pipe in (one, other)] == ["ready", "ready"]
        for pipe in (one, other):
            pipe.send("go")
        ended = [pipe.recv() for pipe in (one, other, one, other)]
    assert [failed for _, failed in ended] == [set()] * 4
    assert_whole(analytics, world)
    for key in KEYS:
        versions = analytics.build_warehouse().query(
            "SELECT one.partition_date::VARCHAR AS day, list(DISTINCT one.run_id) AS runs, "
            "list(DISTINCT log.run_id) AS noted, count(DISTINCT log.rowid) AS lines "
            f"FROM {key.replace('/', '.')} AS one JOIN dixa_catalogue.loads AS log "
            "ON log.asset_key = ? AND log.partition_date = one.partition_date GROUP BY ALL",
            [key],
        )
        assert set(versions.day) == set(DAYS)
        for version in versions.itertuples():
            assert list(version.runs) == list(version.noted)
            assert version.runs[0] in {run_id for run_id, _ in ended}
            assert version.lines == 1


# The calendar


@pytest.mark.parametrize(
    ("changing", "hours"), [("2025-10-26", 25), ("2025-03-30", 23)], ids=["autumn", "spring"]
)
def test_a_clock_change_that_fails_in_mid_backfill_is_mended_by_loading_it_alone(
    changing: str, hours: int, simulator: Simulator, catalogue: Catalogue, tmp_path: Path,
    world: World,
) -> None:  # fmt: skip
    analytics = few(simulator, tmp_path)
    before, after = (date.fromisoformat(changing) + timedelta(days=n) for n in (-1, 1))
    around = (str(before), changing, str(after))
    simulator.tell("faults", kind="malformed_json", id="ratings", skip=1, times=TRIES)
    key = dg.AssetKey(RATINGS.split("/"))
    with dg.instance_for_test() as instance:
        result = load(
            analytics, [CSAT, RATINGS], around[0], around[2], instance=instance, catalogue=catalogue
        )
        assert failed_steps(result) == {step(RATINGS)}
        assert f"1 of 3 days failed ({changing})" in failure_of(result, step(RATINGS))
        assert instance.get_materialized_partitions(key) == {around[0], around[2]}
        assert load(analytics, [RATINGS], changing, instance=instance, catalogue=catalogue).success
        assert instance.get_materialized_partitions(key) == set(around)
    assert_whole(analytics, world, CSAT, RATINGS, days=around)
    length = noted(analytics, RATINGS, "date_diff('hour', interval_start, interval_end)")
    assert length == dict.fromkeys(around, 24) | {changing: hours}
