"""Faults that pass, faults that last, and refusals: what is written, said and asked again."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.faults import (
    CSAT,
    DAYS,
    FAULTY,
    FIRST,
    KEYS,
    LAST,
    MESSAGES,
    NPS,
    RATINGS,
    ROW,
    TRIES,
    again,
    ask_for_days_alone,
    asked,
    assert_one_day_failed,
    assert_whole,
    can_retry,
    failed_steps,
    few,
    held,
    noted,
    pages_asked,
    step,
)
from dixa_assets_tests.support.processes import free_port
from dixa_assets_tests.support.scenario import component, days, failure_of, load
from dixa_assets_tests.support.simulator import KEY, NOW, Json, Simulator
from dixa_assets_tests.support.truth import assert_equal

pytestmark = pytest.mark.slow


def assert_silent_about_the_key(result: dg.ExecuteInProcessResult) -> None:
    assert KEY not in "".join(map(str, result.all_events))


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
    assert_equal(struck.analytics, world, key, days=DAYS)


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
    assert_equal(struck.analytics, world, key, days=DAYS)


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
    result = (
        dg.Definitions(
            assets=definitions.assets,
            jobs=[job],
            resources=analytics.build_resources(KEY),
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
