"""Backfill and daily refresh through a real `dagster dev`, against the vendor's rate limit."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.simulator import Simulator, running_simulator

# What the vendor allows each second, and what its answers take on the way.
LIMIT = 10.0
VENDOR = ("--rate", f"{LIMIT:g}", "--burst", "4", "--latency-ms", "150")

ASSETS = "{ assetNodes { assetKey { path } isPartitioned } }"
BACKFILL = """mutation ($keys: [AssetKeyInput!]!, $days: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $keys, partitionNames: $days}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
RUNS = """query ($tags: [ExecutionTag!]!) {
  runsOrError(filter: {tags: $tags}) { ... on Runs { results {
    runId status creationTime startTime endTime } } } }"""
SCHEDULE = """mutation ($selector: ScheduleSelector!, $at: Float!) {
  scheduleDryRun(selectorData: $selector, timestamp: $at) {
    __typename ... on DryRunInstigationTick { evaluationResult { runRequests {
      assetSelection { path } tags { key value } jobName } } } } }"""
LAUNCH = """mutation ($keys: [AssetKeyInput!]!, $tags: [ExecutionTag!]!) {
  launchPipelineExecution(executionParams: {mode: "default", executionMetadata: {tags: $tags},
    selector: {repositoryLocationName: "dixa_assets", repositoryName: "__repository__",
      pipelineName: "__ASSET_JOB", assetSelection: $keys, assetCheckSelection: null}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { __typename ... on Run {
    runId status creationTime startTime endTime } } }"""
SENSOR = """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
    __typename ... on Sensor { id } } }"""
STOP = """mutation ($id: String!) { stopSensor(id: $id) {
    __typename ... on PythonError { message } } }"""
DONE = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class Timed:
    """A load as the vendor and the clock saw it.

    `waited` are the seconds until Dagster's daemon looked at the request for the first time; it
    does so twice a minute. `seconds` go from there to the end of the last run. `began`, `created`
    (the first run) and `ended` are instants in seconds since 1970.
    """

    seconds: float
    waited: float
    requests: int
    refused: int
    runs: int
    began: float
    created: float
    ended: float

    @property
    def ratio(self) -> float:
        """Wall time over the time its requests take at the vendor's limit."""
        return self.seconds / (self.requests / LIMIT)


@dataclass(frozen=True)
class Dagster:
    """A running `dagster dev` over a simulated Dixa."""

    url: str
    simulator: Simulator
    folder: Path

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a GraphQL query."""
        data = graphql(self.url, query, **variables)
        assert data is not None
        return data


@contextmanager
def dagster_dev(folder: Path, *vendor: str, **settings: str) -> Iterator[Dagster]:
    """The project as `make dev` runs it, its catalogue fetched."""
    folder.mkdir(parents=True)
    port = free_port()
    with running_simulator(*vendor) as simulator:
        own = settings_for(simulator, folder, DIXA_HISTORY_DAYS="0", **settings)
        command = ["dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-p", str(port)]
        with running(command, own, folder / "log"):
            dagster = Dagster(f"http://127.0.0.1:{port}", simulator, folder)
            wait_until(
                lambda: (graphql(dagster.url, ASSETS) or {}).get("assetNodes"),
                seconds=120,
                what="the assets",
            )
            # What it publishes after one load would run beside the next.
            stop_sensor(dagster, "dixa_publish")
            quiet(dagster)
            yield dagster


def stop_sensor(dagster: Dagster, name: str) -> None:
    """Switch a sensor off."""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "dixa_assets",
        "sensorName": name,
    }
    sensor = wait_until(
        lambda: dagster.ask(SENSOR, selector=selector)["sensorOrError"].get("id"),
        seconds=60,
        what=f"the sensor {name}",
    )
    stopped = dagster.ask(STOP, id=sensor)["stopSensor"]
    assert stopped["__typename"] == "StopSensorMutationResult", stopped


def quiet(dagster: Dagster) -> None:
    """Return when no run is under way."""
    running_now = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]})
        { ... on Runs { results { runId } } } }"""
    time.sleep(8)
    wait_until(
        lambda: not dagster.ask(running_now)["runsOrError"]["results"],
        seconds=600,
        what="the end of other runs",
    )


def backfill(dagster: Dagster, keys: Sequence[str], last_days: int, *, until: int = 1) -> Timed:
    """Backfill assets for the days up to `until` days ago."""
    today = date.today()  # noqa: DTZ011
    days = [
        (today - timedelta(days=number)).isoformat()
        for number in range(until + last_days - 1, until - 1, -1)
    ]
    dagster.simulator.forget_requests()
    launched_at = time.time()
    assets = [{"path": key.split("/")} for key in keys]
    launched = dagster.ask(BACKFILL, keys=assets, days=days)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    tags = [{"key": "dagster/backfill", "value": launched["backfillId"]}]

    def ended() -> list[dict[str, Any]] | None:
        runs = dagster.ask(RUNS, tags=tags)["runsOrError"]["results"]
        return runs if runs and all(run["status"] in DONE for run in runs) else None

    runs = wait_until(ended, seconds=3600, what="the end of the backfill")
    assert all(run["status"] == "SUCCESS" for run in runs), runs
    picked_up = picked_up_at(dagster, launched["backfillId"], launched_at)
    return timed(dagster, picked_up, launched_at, runs)


def picked_up_at(dagster: Dagster, backfill_id: str, launched_at: float) -> float:
    """When the daemon first looked at a backfill, from its log; it does so every 30 s."""
    log = (dagster.folder / "log").read_text(errors="replace")
    stamp = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+?)\x1b"
    found = re.search(rf"{stamp}.*asset backfill {backfill_id}", log)
    assert found, "the daemon's log does not name the backfill"
    return max(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S %z").timestamp(), launched_at)


def refresh(dagster: Dagster) -> Timed:
    """What the daily schedule asks for, launched as it would be."""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "dixa_assets",
        "scheduleName": "dixa_daily_refresh",
    }
    tick = dagster.ask(SCHEDULE, selector=selector, at=time.time())["scheduleDryRun"]
    requests = tick["evaluationResult"]["runRequests"]
    dagster.simulator.forget_requests()
    launched_at = time.time()
    ids = []
    for request in requests:
        answer = dagster.ask(
            LAUNCH,
            keys=[{"path": key["path"]} for key in request["assetSelection"]],
            tags=request["tags"],
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        ids.append(answer["run"]["runId"])

    def ended() -> list[dict[str, Any]] | None:
        runs = [dagster.ask(RUN, id=each)["runOrError"] for each in ids]
        return runs if all(run["status"] in DONE for run in runs) else None

    runs = wait_until(ended, seconds=3600, what="the end of the refresh")
    assert all(run["status"] == "SUCCESS" for run in runs), runs
    return timed(dagster, launched_at, launched_at, runs)


def timed(
    dagster: Dagster, began: float, launched_at: float, runs: Sequence[dict[str, Any]]
) -> Timed:
    """A load with what the simulator saw of it."""
    seen = httpx.get(f"{dagster.simulator.url}/simulator/summary", timeout=30).json()
    ended = max(run["endTime"] for run in runs)
    return Timed(
        seconds=ended - began,
        waited=began - launched_at,
        requests=seen["total"],
        refused=seen["statuses"].get("429", 0),
        runs=len(runs),
        began=began,
        created=min(run["creationTime"] for run in runs),
        ended=ended,
    )


def where_it_went(case: str, dagster: Dagster, load: Timed) -> str:
    """The seconds of the last load, as a table in Markdown."""
    at = sorted(
        datetime.fromisoformat(request["at"]).timestamp()
        for request in dagster.simulator.requests()
    )
    # What may go at once is ahead of the limit, by less than a burst.
    asking = min((len(at) - 1) / LIMIT, at[-1] - at[0])
    parts = {
        "planned": load.created - load.began,
        "queued, process started, code location loaded": at[0] - load.created,
        "requests at the limit": asking,
        "between requests, beyond the limit": at[-1] - at[0] - asking,
        "last answer, last write, checks, end of the run": load.ended - at[-1],
    }
    lines = [f"| {what} | {seconds:.1f} | {seconds / load.seconds:.0%} |"
             for what, seconds in parts.items()]  # fmt: skip
    return "\n".join([f"| {case} | s | share |", "|---|---|---|", *lines])


def some_assets(metrics: int, records: int) -> list[str]:
    """The first metrics and records of the catalogue."""
    return [
        *(f"dixa_metrics/{name}" for name in list(METRICS)[:metrics]),
        *(f"dixa_records/{name}" for name in list(RECORDS)[:records]),
    ]
