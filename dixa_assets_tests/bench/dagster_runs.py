"""Backfill and daily refresh through a real `dagster dev`, against the vendor's rate limit."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.bench import empty
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    run,
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
      pipelineName: "dixa_load", assetSelection: $keys, assetCheckSelection: []}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
NOTHING = """mutation { launchPipelineExecution(executionParams: {mode: "default",
    selector: {repositoryLocationName: "empty", repositoryName: "__repository__",
      pipelineName: "nothing"}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
# The code location beside the project's.
EMPTY = f"""load_from:
  - python_module:
      module_name: dixa_assets_tests.bench.empty
      working_directory: {PROJECT}
      location_name: empty
"""
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
    does so twice a minute. `began` is then; it, `created` and `started` (the first run), the first
    and the last request and `ended` are instants in seconds since 1970.
    """

    waited: float
    requests: int
    refused: int
    runs: int
    began: float
    created: float
    started: float
    first: float
    last: float
    ended: float

    @property
    def floor(self) -> float:
        """Seconds that its requests take at the vendor's limit."""
        return self.requests / LIMIT

    @property
    def ratio(self) -> float:
        """From the run's creation to its end, over the floor."""
        return (self.ended - self.created) / self.floor

    @property
    def asking_ratio(self) -> float:
        """From the first request to the last, over the floor."""
        return (self.last - self.first) / self.floor


@dataclass(frozen=True)
class Dagster:
    """A running `dagster dev` over a simulated Dixa."""

    url: str
    simulator: Simulator
    folder: Path
    settings: dict[str, str]

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
        own[empty.NUMBER] = str(folder / "number")
        (folder / "number").write_text("0")
        (folder / "empty.yaml").write_text(EMPTY)
        command = ["dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-p", str(port)]
        command += ["-w", str(folder / "empty.yaml")]
        with running(command, own, folder / "log"):
            dagster = Dagster(f"http://127.0.0.1:{port}", simulator, folder, own)
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
    created = min(run["creationTime"] for run in runs)
    # A look at the catalogue before the load is no part of it.
    asked = [
        (instant, request["status"])
        for request in dagster.simulator.requests()
        if (instant := datetime.fromisoformat(request["at"]).timestamp()) > created
    ]
    return Timed(
        waited=began - launched_at,
        requests=len(asked),
        refused=sum(status == 429 for _, status in asked),
        runs=len(runs),
        began=began,
        created=created,
        started=min(run["startTime"] for run in runs),
        first=min(asked)[0],
        last=max(asked)[0],
        ended=max(run["endTime"] for run in runs),
    )


def launch(dagster: Dagster, keys: Sequence[str], last_days: int) -> float:
    """Seconds that one command takes to load the last days of assets, in a process of its own."""
    today = date.today()  # noqa: DTZ011
    first, last = today - timedelta(days=last_days), today - timedelta(days=1)
    command = ["dagster_dg_cli.cli", "launch", "--target-path", str(PROJECT)]
    command += ["--assets", ",".join(f"key:{key}" for key in keys)]
    command += ["--partition-range", f"{first}...{last}"]
    began = time.perf_counter()
    done = run(command, dagster.settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


def start_of_nothing(dagster: Dagster) -> float:
    """Seconds from creation to start of a run without a step, in the same instance."""
    answer = dagster.ask(NOTHING)["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]

    def ended() -> dict[str, Any] | None:
        found = dagster.ask(RUN, id=run_id)["runOrError"]
        return found if found["status"] in DONE else None

    done = wait_until(ended, seconds=60, what="the end of a run that does nothing")
    assert done["status"] == "SUCCESS", done
    return float(done["startTime"] - done["creationTime"])


def where_it_went(case: str, load: Timed) -> str:
    """The seconds of a load, as a table in Markdown."""
    # What may go at once is ahead of the limit, by less than a burst.
    asked = load.last - load.first
    asking = min((load.requests - 1) / LIMIT, asked)
    parts = {
        "planned": load.created - load.began,
        "queued, process started, code location loaded": load.first - load.created,
        "requests at the limit": asking,
        "between requests, beyond the limit": asked - asking,
        "last answer, last write, checks, end of the run": load.ended - load.last,
    }
    whole = load.ended - load.began
    lines = [f"| {what} | {seconds:.1f} | {seconds / whole:.0%} |"
             for what, seconds in parts.items()]  # fmt: skip
    return "\n".join([f"| {case} | s | share |", "|---|---|---|", *lines])


def some_assets(metrics: int, records: int) -> list[str]:
    """The first metrics and records of the catalogue."""
    return [
        *(f"dixa_metrics/{name}" for name in list(METRICS)[:metrics]),
        *(f"dixa_records/{name}" for name in list(RECORDS)[:records]),
    ]
