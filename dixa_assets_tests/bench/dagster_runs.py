"""Backfills and the daily refresh in a real `dagster dev`, at the vendor's rate limit."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.bench import empty, textbook_defs
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.support.days import today_in_copenhagen
from dixa_assets_tests.support.processes import (
    PROJECT,
    child,
    free_port,
    graphql,
    run,
    running,
    settings_for,
    store_catalogue,
    wait_until,
)
from dixa_assets_tests.support.simulator import Simulator, running_simulator

# The vendor's requests per second, and the latency of its answers.
LIMIT = 10.0
VENDOR = ("--rate", f"{LIMIT:g}", "--burst", "4", "--latency-ms", "150")
TIMES, TEXTBOOK_DAYS = 3, 10

ASSETS = "{ assetNodes { assetKey { path } isPartitioned } }"
RUNS = """query ($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 20) {
    ... on Runs { results { runId status creationTime startTime endTime } } } }"""
BACKFILL = """mutation ($keys: [AssetKeyInput!]!, $days: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $keys, partitionNames: $days}) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
SCHEDULE = """mutation ($selector: ScheduleSelector!, $at: Float!) {
  scheduleDryRun(selectorData: $selector, timestamp: $at) {
    ... on DryRunInstigationTick { evaluationResult { runRequests {
      assetSelection { path } tags { key value } } } } } }"""
LAUNCH = """mutation ($parameters: ExecutionParams!) {
  launchPipelineExecution(executionParams: $parameters) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
SENSOR = """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
    ... on Sensor { id } ... on PythonError { message } } }"""
STOP = "mutation ($id: String!) { stopSensor(id: $id) { ... on PythonError { message } } }"
DONE = {"SUCCESS", "FAILURE", "CANCELED"}
UNDER_WAY = {"statuses": ["QUEUED", "NOT_STARTED", "STARTING", "STARTED"]}
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "dixa_assets"}
# A second code location, whose assets and job do nothing.
EMPTY = f"""load_from:
  - python_module:
      module_name: dixa_assets_tests.bench.empty
      working_directory: {PROJECT}
      location_name: empty
"""
Run = dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """A load as the vendor and the clock saw it.

    `waited` is the number of seconds until Dagster's daemon first looked at the request, which it
    does twice a minute. The others are instants in seconds since 1970; `began` is that first look.
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
        """Seconds that the requests take at the vendor's limit."""
        return self.requests / LIMIT

    @property
    def took(self) -> float:
        """Seconds from the creation of the first run to the end of the last."""
        return self.ended - self.created

    @property
    def closing(self) -> float:
        """Seconds from the last request to the end."""
        return self.ended - self.last


@dataclass(frozen=True)
class Dagster:
    """A running `dagster dev` over a simulated Dixa."""

    url: str
    simulator: Simulator
    folder: Path
    settings: dict[str, str]

    def ask(self, query: str, **variables: Any) -> Any:
        """The value of the one field of a GraphQL query."""
        (found,) = graphql(self.url, query, **variables).values()
        assert not {"message", "errors"} & set(found), found
        return found

    def runs(self, **wanted: Any) -> list[Run]:
        """The latest runs, for instance `tags=` or `runIds=`."""
        found: list[Run] = self.ask(RUNS, filter=wanted)["results"]
        return found

    def ended(self, **wanted: Any) -> list[Run]:
        """The runs when all of them have succeeded."""

        def done() -> list[Run] | None:
            runs = self.runs(**wanted)
            return runs if runs and all(run["status"] in DONE for run in runs) else None

        runs = wait_until(done, seconds=3600, what=f"the end of {wanted}")
        assert all(run["status"] == "SUCCESS" for run in runs), runs
        return runs

    def launch(self, job: str, location: str, tags: Sequence[Any] = (), **more: Any) -> str:
        """Start a run; its id."""
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": location,
            "pipelineName": job,
        }
        parameters = {
            "mode": "default",
            "executionMetadata": {"tags": [*tags]},
            "selector": selector | more,
        }
        return str(self.ask(LAUNCH, parameters=parameters)["run"]["runId"])

    def quiet(self) -> None:
        """Return when no run is under way."""
        time.sleep(8)
        wait_until(lambda: not self.runs(**UNDER_WAY), what="the end of other runs")


@contextmanager
def served(
    command: list[str], simulator: Simulator, folder: Path, settings: dict[str, str]
) -> Iterator[Dagster]:
    """A `dagster dev` whose code location has its assets."""
    port = free_port()
    dagster = Dagster(f"http://127.0.0.1:{port}", simulator, folder, settings)
    with running(["dagster", "dev", *command, "-p", str(port)], settings, folder / "log"):
        wait_until(
            lambda: (graphql(dagster.url, ASSETS) or {}).get("assetNodes"),
            what="the assets",
        )
        yield dagster


@contextmanager
def dagster_dev(folder: Path, storage: str = "", **settings: str) -> Iterator[Dagster]:
    """The project as `make dev` runs it, its catalogue fetched.

    Args:
        folder: The folder of all its files.
        storage: YAML to append to dagster.yaml, for another storage than SQLite.
        settings: Environment variables.
    """
    folder.mkdir(exist_ok=True)
    with running_simulator(*VENDOR) as simulator:
        # A look at the catalogue during a load would count as its requests.
        settings = {"DIXA_CATALOGUE_REFRESH_SECONDS": "86400"} | settings
        own = settings_for(simulator, folder, DIXA_HISTORY_DAYS="0", **settings)
        with Path(own["DAGSTER_HOME"], "dagster.yaml").open("a") as config:
            config.write(storage)
        own[empty.NUMBER] = str(folder / "number")
        (folder / "number").write_text("0")
        (folder / "empty.yaml").write_text(EMPTY)
        command = ["-w", str(PROJECT / "workspace.yaml"), "-w", str(folder / "empty.yaml")]
        store_catalogue(own)
        with served(command, simulator, folder, own) as dagster:
            # A run that publishes one load would disturb the next.
            selector = REPOSITORY | {"sensorName": "dixa_publish"}
            dagster.ask(STOP, id=dagster.ask(SENSOR, selector=selector)["id"])
            dagster.quiet()
            yield dagster


def days_until(last: int, number: int) -> list[str]:
    """Some days in order; `last` is how many days ago the last of them was."""
    today = today_in_copenhagen()
    return [str(today - timedelta(days=last + each)) for each in reversed(range(number))]


def backfill(dagster: Dagster, keys: Sequence[str], days: Sequence[str]) -> Timed:
    """A backfill as the UI starts it."""
    dagster.simulator.forget_requests()
    launched_at = time.time()
    assets = [{"path": key.split("/")} for key in keys]
    backfill_id = dagster.ask(BACKFILL, keys=assets, days=days)["backfillId"]
    runs = dagster.ended(tags=[{"key": "dagster/backfill", "value": backfill_id}])
    # The daemon looks for backfills every 30 s and logs what it finds.
    log = (dagster.folder / "log").read_text(errors="replace")
    stamp = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+?)\x1b"
    found = re.search(rf"{stamp}.*asset backfill {backfill_id}", log)
    assert found, "the daemon's log does not name the backfill"
    began = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S %z").timestamp()
    return timed(dagster, launched_at, max(began, launched_at), runs)


def refresh(dagster: Dagster) -> Timed:
    """The runs that the daily schedule requests."""
    selector = REPOSITORY | {"scheduleName": "dixa_daily_refresh"}
    tick = dagster.ask(SCHEDULE, selector=selector, at=time.time())["evaluationResult"]
    dagster.simulator.forget_requests()
    launched_at = time.time()
    ids = [
        dagster.launch(
            "dixa_load",
            "dixa_assets",
            tags=request["tags"],
            assetSelection=request["assetSelection"],
            assetCheckSelection=[],
        )
        for request in tick["runRequests"]
    ]
    return timed(dagster, launched_at, launched_at, dagster.ended(runIds=ids))


def timed(dagster: Dagster, launched_at: float, began: float, runs: Sequence[Run]) -> Timed:
    """The instants of a load, and the simulator's log of its requests."""
    created = min(run["creationTime"] for run in runs)
    # The catalogue sensor may send requests before the load.
    sent = [
        (instant, request["status"])
        for request in dagster.simulator.requests()
        if (instant := datetime.fromisoformat(request["at"]).timestamp()) > created
    ]
    return Timed(
        waited=began - launched_at,
        requests=len(sent),
        refused=sum(status == 429 for _, status in sent),
        runs=len(runs),
        began=began,
        created=created,
        started=min(run["startTime"] for run in runs),
        first=min(sent)[0],
        last=max(sent)[0],
        ended=max(run["endTime"] for run in runs),
    )


def some_assets(metrics: int, records: int) -> list[str]:
    """The first metrics and records of the catalogue."""
    return [
        *(f"dixa_metrics/{name}" for name in list(METRICS)[:metrics]),
        *(f"dixa_records/{name}" for name in list(RECORDS)[:records]),
    ]


# The cases


def at_the_limit(folder: Path, quick: bool) -> Iterator[Found | str]:
    """Two sizes of backfills and the daily refresh."""
    times = 1 if quick else TIMES
    with dagster_dev(folder) as dagster:
        for metrics, records, number in ((4, 1, 20), (2, 1, 10)) if quick else LARGE_AND_SMALL:
            assets = some_assets(metrics, records)
            loads = [
                backfill(dagster, assets, days_until(1 + each * number, number))
                for each in range(times)
            ]
            yield from at_limit(loads)
            yield where_it_went(f"Backfill of {len(assets)} assets x {number} days", loads[-1])
        by_dg = by_command(dagster, assets, days_until(1, number))
        yield Found(
            ours=f"{loads[-1].ended - loads[-1].began + loads[-1].waited:.1f} s",
            floor=f"{loads[-1].floor:.1f} s",
            alternative=f"{by_dg:.1f} s by `dg launch`",
        )
        loads, idle = refreshes(dagster, times), []
        for _ in range(times):
            (nothing,) = dagster.ended(runIds=[dagster.launch("nothing", "empty")])
            dagster.quiet()
            idle.append(nothing["startTime"] - nothing["creationTime"])
        yield from at_limit(loads)
        yield where_it_went("Daily refresh", loads[-1])
        started = [load.started - load.created for load in loads]
        yield Found(
            ours=f"{median(started):.1f} s",
            floor=f"{median(idle):.1f} s: a run without a step",
            values=[seconds - median(idle) for seconds in started],
        )
        ends = [load.closing for load in refreshes(dagster, times, with_busy_core=True)]
        yield Found(ours=f"{median(ends):.1f} s", values=ends)


def refreshes(dagster: Dagster, times: int, *, with_busy_core: bool = False) -> list[Timed]:
    """Daily refreshes, one after the other."""
    loads = []
    for _ in range(times):
        with child(keep_busy) if with_busy_core else nullcontext():
            loads.append(refresh(dagster))
        dagster.quiet()
    return loads


def keep_busy(pipe: Connection) -> None:
    """Use a core until the other end of the pipe is closed."""
    while not pipe.poll():
        pass


LARGE_AND_SMALL = ((20, 5, 60), (10, 2, 30))


def at_limit(loads: Sequence[Timed]) -> Iterator[Found]:
    """From the run's creation to its end, then from its first request to its last."""
    floor = median(load.floor for load in loads)
    refused = sum(load.refused for load in loads)
    spans: tuple[Callable[[Timed], float], ...] = (
        lambda load: load.took,
        lambda load: load.last - load.first,
    )
    for seconds in spans:
        yield Found(
            ours=f"{median(map(seconds, loads)):.1f} s, {refused} refused",
            floor=f"{floor:.1f} s: {floor * LIMIT:.0f} requests at {LIMIT:g}/s",
            values=[seconds(load) / load.floor for load in loads],
            flawless=not refused,
        )


def by_command(dagster: Dagster, keys: Sequence[str], days: Sequence[str]) -> float:
    """Seconds of `dg launch` for some days of assets."""
    command = ["dagster_dg_cli.cli", "launch", "--target-path", str(PROJECT)]
    command += ["--assets", ",".join(f"key:{key}" for key in keys)]
    command += ["--partition-range", f"{days[0]}...{days[-1]}"]
    began = time.perf_counter()
    run(command, dagster.settings, ok=True)
    return time.perf_counter() - began


def where_it_went(title: str, load: Timed) -> str:
    """The seconds of a load, as a table in Markdown."""
    span = load.last - load.first
    # The requests of a burst are sent ahead of the limit.
    at_limit = min((load.requests - 1) / LIMIT, span)
    parts = {
        "planned": load.created - load.began,
        "queued, process started, code location loaded": load.first - load.created,
        "requests at the limit": at_limit,
        "between requests, beyond the limit": span - at_limit,
        "last answer, last write, checks, end of the run": load.closing,
    }
    whole = load.ended - load.began
    lines = [f"| {part} | {took:.1f} | {took / whole:.0%} |" for part, took in parts.items()]
    return "\n".join([f"| {title} | s | share |", "|---|---|---|", *lines])


def textbook(folder: Path, _: bool) -> Iterator[Found]:
    """The backfill of a textbook project, in a `dagster dev` on Dagster's own settings."""
    metrics = textbook_defs.METRICS
    with running_simulator(*VENDOR) as simulator:
        settings = settings_for(simulator, folder)
        config = Path(settings["DAGSTER_HOME"], "dagster.yaml")
        config.write_text("telemetry:\n  enabled: false\n")
        with served(["-f", textbook_defs.__file__], simulator, folder, settings) as dagster:
            load = backfill(dagster, metrics, days_until(1, TEXTBOOK_DAYS))
    # The default is a run for each day.
    assert load.runs == TEXTBOOK_DAYS, load
    with duckdb.connect(str(folder / "dixa.duckdb"), read_only=True) as connection:
        for metric in metrics:
            days = connection.execute(f"SELECT count(DISTINCT day) FROM {metric}").fetchone()
            assert days == (TEXTBOOK_DAYS,), metric
    yield Found(
        floor=f"{load.floor:.1f} s: {load.requests} requests at {LIMIT:g}/s",
        alternative=f"{load.ended - load.began:.1f} s, {load.refused} refused",
        values=[(load.ended - load.began) / load.floor],
    )
