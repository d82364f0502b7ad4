"""Faults that pass, faults that last, and refusals: rows, messages and repeated requests."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.faults import (
    CSAT,
    FAULTY,
    FIRST,
    KEYS,
    LAST,
    MESSAGES,
    NPS,
    RATINGS,
    ROW,
    TRIES,
    Held,
    Scene,
    ask_for_days_alone,
    assert_one_day_failed,
    can_retry,
    failed_steps,
    few,
    step,
)
from dixa_assets_tests.support.processes import free_port
from dixa_assets_tests.support.scenario import component, days, failure_of
from dixa_assets_tests.support.simulator import KEY, NOW, Json, Simulator

pytestmark = pytest.mark.slow


def assert_silent_about_the_key(result: dg.ExecuteInProcessResult) -> None:
    assert KEY not in "".join(map(str, result.all_events))


@dataclass(frozen=True)
class Fault:
    """A fault as the simulator takes it, and a pattern of the error that it causes."""

    wish: Json
    error: str


def status(code: int, error: str, body: Any = None, **more: Any) -> Fault:
    """An answer with a status; a body that is no text is sent as JSON."""
    if body is not None:
        more["body"] = body if isinstance(body, str) else json.dumps(body)
    return Fault({"kind": "status", "status": code, **more}, error)


PLAIN = {"content_type": "text/plain"}
PASSING = [
    status(500, "500"),
    status(502, "502 Bad Gateway: upstream is down", "upstream is down", **PLAIN),
    status(503, r"503 Service Unavailable: not you, \*\*\*", {"message": f"not you, {KEY}"}),
    status(504, "504.*no message", ""),
    status(408, "408"),
    status(429, "429 Too Many Requests"),
    status(429, "429 Too Many Requests", headers={"Retry-After": "2"}),
    Fault({"kind": "html"}, "200, text/html.*is not JSON"),
    Fault({"kind": "malformed_json"}, "is not JSON"),
    Fault({"kind": "nan"}, "NaN is not a JSON value"),
    Fault({"kind": "reset"}, "no complete answer"),
    Fault({"kind": "truncate"}, "no complete answer"),
]
BEYOND = json.dumps({"data": [ROW]})[:-3] + ', "value": {"value": 1e999}}]}'
NO_KEY = {"data": [ROW], "meta": {"next": "/v1/analytics/records?page=2"}}
REFUSED = [
    status(400, "400 Bad Request: Invalid body", {"message": "Invalid body"}),
    status(400, "400 Bad Request: Invalid body", "Invalid\n body", **PLAIN),
    status(400, r"400 Bad Request: no \*\*\*", f"no {KEY}", **PLAIN),
    status(409, "409 Conflict"),
    status(302, "302: a redirect.*DIXA_BASE_URL", headers={"Location": "https://other.example"}),
    status(429, "86400 s", headers={"Retry-After": "86400"}),
    status(200, "not an object", []),
    status(200, "'data' is not a list", {"data": 5}),
    status(200, "primaryTimestampField", {"data": [{"fields": []}]}),
    status(200, "no column can hold a number", BEYOND),
    Fault({"kind": "foreign_host"}, "another host .elsewhere.example."),
    status(200, "no pageKey", NO_KEY),
]
NPS_DATA = {"data": {"id": "nps", "aggregates": []}}
METRIC_FAULTS = [status(200, "the answer is about 'nps'", NPS_DATA)]


# Each fault has an asset of its own. The records' passing faults come before their refusals.
RECORD_KEYS = [f"dixa_records/{name}" for name in RECORDS if name != "messages_sent"]
METRIC_KEYS = [f"dixa_metrics/{name}" for name in METRICS]
PASSING_FAULTS = dict(zip(RECORD_KEYS, PASSING, strict=False))
LASTING_FAULTS = dict(zip(METRIC_KEYS, PASSING, strict=False))
METRIC_REFUSALS = dict(zip(METRIC_KEYS[::-1], METRIC_FAULTS, strict=False))
REFUSALS = dict(zip(RECORD_KEYS, REFUSED, strict=False)) | METRIC_REFUSALS


@dataclass(frozen=True)
class Struck:
    """A load whose faults passed, and the next one, whose faults lasted."""

    scene: Scene
    passed: dg.ExecuteInProcessResult
    waits: list[float]
    requests_passed: dict[str, list[str]]
    before: Held
    failed: dg.ExecuteInProcessResult
    requests_failed: dict[str, list[str]]
    after: Held


def strike(scene: Scene, faults: dict[str, Fault], times: int) -> None:
    """Set up each asset's fault: the first request for its second day, and its repeats."""
    for key, fault in faults.items():
        schema, name = key.split("/")
        operation = "postAnalyticsMetrics" if schema == "dixa_metrics" else "postAnalyticsRecords"
        scene.fault(**fault.wish, operation=operation, id=name, skip=1, times=times)


@pytest.fixture(scope="module")
def struck(
    simulator_process: Simulator,
    catalogue: Catalogue,
    world: World,
    all_waits: list[float],
    tmp_path_factory: pytest.TempPathFactory,
) -> Struck:
    simulator_process.tell("reset", now=NOW.isoformat())
    analytics = component(simulator_process, tmp_path_factory.mktemp("struck"), windows_at_a_time=1)
    scene = Scene(simulator_process, analytics, catalogue, world)
    keys = [*PASSING_FAULTS, *LASTING_FAULTS, *METRIC_REFUSALS]
    all_waits.clear()
    strike(scene, PASSING_FAULTS, times=2)
    passed, waits = scene.load(*keys), list(all_waits)
    requests_passed = {key: scene.requested(key) for key in keys}
    ask_for_days_alone(analytics)
    before = scene.held(*keys)
    simulator_process.tell("reset", now=NOW.isoformat())
    strike(scene, LASTING_FAULTS, times=TRIES)
    strike(scene, REFUSALS, times=1)
    failed = scene.load(*keys)
    requests_failed = {key: scene.requested(key) for key in keys}
    return Struck(
        scene, passed, waits, requests_passed, before, failed, requests_failed, scene.held(*keys)
    )


@pytest.mark.parametrize("key", PASSING_FAULTS)
def test_a_fault_that_passes_costs_repeats_and_no_row(key: str, struck: Struck) -> None:
    assert struck.passed.success
    assert struck.requests_passed[key] == [FIRST, FAULTY, FAULTY, FAULTY, LAST]
    events = struck.passed.asset_materializations_for_node(step(key))
    retries = {event.partition: event.metadata["retries"].value for event in events}
    assert retries == {FIRST: 0, FAULTY: 2, LAST: 0}
    assert_silent_about_the_key(struck.passed)
    struck.scene.assert_equal(key)


def test_the_servers_wait_is_kept_if_it_is_longer(struck: Struck) -> None:
    assert len(struck.waits) == 2 * len(PASSING_FAULTS)
    assert min(struck.waits) >= 0.5
    assert len([seconds for seconds in struck.waits if seconds >= 2]) == 2


def test_a_step_fails_for_each_asset_whose_fault_lasts_and_for_no_other(struck: Struck) -> None:
    assert failed_steps(struck.failed) == {step(key) for key in (*LASTING_FAULTS, *REFUSALS)}
    assert_silent_about_the_key(struck.failed)


@pytest.mark.parametrize("key", LASTING_FAULTS | REFUSALS)
def test_a_fault_that_stays_leaves_its_day_as_it_was_and_names_it(key: str, struck: Struck) -> None:
    lasts = key in LASTING_FAULTS
    said = failure_of(struck.failed, step(key))
    assert said.startswith(
        f"1 of 3 days failed ({FAULTY}). Their stored rows did not change. {FAULTY}: "
    )
    assert f"'{key.split('/')[1]}'" in said or key in said
    assert re.search((LASTING_FAULTS | REFUSALS)[key].error, said)
    assert can_retry(struck.failed, key) is lasts
    assert struck.requests_failed[key] == [FIRST, *[FAULTY] * (TRIES if lasts else 1), LAST]
    assert struck.after[key, FAULTY] == struck.before[key, FAULTY]
    assert struck.after[key, FIRST] != struck.before[key, FIRST]
    assert struck.after[key, LAST] != struck.before[key, LAST]
    struck.scene.assert_equal(key)


@pytest.mark.parametrize("name", ["503", "reset", "truncate"])
def test_a_fault_in_mid_window_has_that_page_asked_for_again_and_no_other(
    name: str, scene: Scene
) -> None:
    fault: Json = {"kind": "status", "status": 503} if name == "503" else {"kind": name}
    scene.fault(id="messages_sent", skip=3, times=2, **fault)
    assert scene.load(MESSAGES).success
    assert scene.pages(FAULTY) == [False, True, True, True]
    assert scene.noted(MESSAGES, "retries") == {FIRST: 0, FAULTY: 2, LAST: 0}
    assert scene.noted(MESSAGES, "pages") == {FIRST: 2, FAULTY: 2, LAST: 2}
    scene.assert_whole()


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (503, 2 * TRIES)])
def test_a_retry_policy_repeats_only_what_a_repeat_can_mend(
    status: int, tries: int, scene: Scene
) -> None:
    definitions = scene.analytics.build_definitions(scene.catalogue)
    job = dg.define_asset_job(
        "patient",
        selection=[dg.AssetKey(CSAT.split("/"))],
        op_retry_policy=dg.RetryPolicy(max_retries=1),
    )
    scene.fault("status", status=status, operation="postAnalyticsMetrics")
    result = (
        dg.Definitions(
            assets=definitions.assets,
            jobs=[job],
            resources=scene.analytics.build_resources(KEY),
        )
        .resolve_job_def("patient")
        .execute_in_process(partition_key=FIRST, raise_on_error=False)
    )
    assert not result.success
    assert len(scene.requested(CSAT)) == tries


def test_a_key_refused_in_mid_run_ends_the_load_and_keeps_the_days_before(scene: Scene) -> None:
    before = scene.held(CSAT)
    body = '{"message": "Unauthorized"}'
    scene.fault("status", status=401, id="csat", skip=5, body=body)
    result = scene.load(CSAT, NPS, first="2025-10-31", last="2025-11-10")
    assert failed_steps(result) == {step(CSAT)}
    said = failure_of(result, step(CSAT))
    assert f"{FAULTY}: POST /v1/analytics/metrics for 'csat': 401 Unauthorized" in said
    assert "DIXA_API_KEY" in said
    assert can_retry(result, CSAT) is False
    assert_silent_about_the_key(result)
    # The next day was already requested when the first 401 arrived.
    assert scene.requested(CSAT) == [str(day) for day in days("2025-10-31", LAST)]
    after = scene.held(CSAT)
    new = tuple(str(day) for day in days("2025-10-31", FIRST))
    assert {day for _, day in after} == {*new, FAULTY, LAST}
    assert {day for key, day in after if after[key, day] != before.get((key, day))} == set(new)
    scene.assert_whole(CSAT, days=(*new, FAULTY, LAST))
    every_day = [str(day) for day in days("2025-10-31", "2025-11-10")]
    scene.assert_whole(NPS, days=every_day)


@pytest.mark.usefixtures("full_of_patience")
def test_the_vendors_limit_slows_a_load_and_costs_no_day(scene: Scene, waits: list[float]) -> None:
    scene.simulator.tell("settings", rate=5, burst=1, retry_after=1.7)
    assert scene.load().success
    scene.assert_whole()
    refused = [request for request in scene.simulator.requests() if request["status"] == 429]
    assert len(waits) == len(refused) > 0
    assert min(waits) >= 1.7
    assert sum(sum(scene.noted(key, "retries").values()) for key in KEYS) == len(refused)


@pytest.mark.usefixtures("short_of_patience")
@pytest.mark.parametrize("times", [1, TRIES])
def test_an_answer_that_takes_too_long_is_asked_for_again_and_given_up_in_the_end(
    times: int, scene: Scene
) -> None:
    before = scene.held()
    scene.fault("slow", seconds=0.5, id="ratings", skip=1, times=times)
    result = scene.load(RATINGS, CSAT)
    if times == TRIES:
        assert_one_day_failed(result, RATINGS, "no complete answer")
        assert can_retry(result, RATINGS) is True
    assert result.success == (times == 1)
    assert scene.requested(RATINGS) == [FIRST, *[FAULTY] * min(times + 1, TRIES), LAST]
    is_as_it_was = scene.held()[RATINGS, FAULTY] == before[RATINGS, FAULTY]
    assert is_as_it_was == (times == TRIES)
    scene.assert_whole()


def test_without_a_server_everything_stays_as_it_was(scene: Scene, tmp_path: Path) -> None:
    before = scene.held()
    nowhere = Simulator(f"http://127.0.0.1:{free_port()}")
    result = replace(scene, analytics=few(nowhere, tmp_path)).load()
    assert failed_steps(result) == {step(key) for key in KEYS}
    for key in KEYS:
        said = failure_of(result, step(key))
        assert f"3 of 3 days failed ({FIRST}, {FAULTY}, {LAST})" in said
        assert "ConnectError" in said
        assert "Is the API reachable?" in said
        assert can_retry(result, key) is True
    assert scene.held() == before


def test_a_metric_that_always_fails_leaves_the_others_alone(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    everything = replace(scene, analytics=component(scene.simulator, tmp_path / "all"))
    scene.fault("status", status=500, operation="postAnalyticsMetrics", id="nps")
    result = everything.load(*METRIC_KEYS, *RECORD_KEYS, first=FAULTY, last=FAULTY)
    assert failed_steps(result) == {step(NPS)}
    assert "500" in failure_of(result, step(NPS))
    warehouse = everything.analytics.build_warehouse()
    loaded = warehouse.query("SELECT asset_key AS k FROM dixa_catalogue.loads")
    assert set(loaded.k) == {*METRIC_KEYS, *RECORD_KEYS} - {NPS}
    everything.assert_equal(*loaded.k, days=[FAULTY])


def test_after_five_failed_days_no_further_day_is_asked_for(scene: Scene) -> None:
    before = scene.held(CSAT)
    scene.fault("status", status=400, operation="postAnalyticsMetrics")
    result = scene.load(CSAT, first="2025-10-01", last="2025-11-06")
    said = failure_of(result, step(CSAT))
    assert "2025-10-01, 2025-10-02, 2025-10-03, 2025-10-04, 2025-10-05" in said
    assert scene.requested(CSAT) == [str(day) for day in days("2025-10-01", "2025-10-06")]
    assert scene.held(CSAT) == before
