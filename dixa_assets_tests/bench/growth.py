"""What growth costs: of the catalogue, of history, of the database file.

Run one case as `python -m dixa_assets_tests.bench.growth --case history --quick`. Each case
prints what was measured beside its target; none of them asserts the target.
"""

import argparse
import io
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.bench.dagster_runs import (
    DONE,
    VENDOR,
    Dagster,
    dagster_dev,
    some_assets,
)
from dixa_assets_tests.support.processes import PROJECT, run, running, settings_for, wait_until
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Simulator, running_simulator

BUILT_IN = len(METRICS) + len(RECORDS)
ENTRIES, QUICK_ENTRIES = 1_000, 200
# How often the catalogue is looked at while the arrival of a metric is timed.
LOOK_SECONDS = 10
REPEATS = 3

YEARS_DAYS, QUICK_DAYS = 5 * 365, 200
ROUNDS = 3
MEASUREMENTS = 5
FIRST_DAY = date(2020, 1, 1)


# ---------------------------------------------------------------------------------- the catalogue


@dataclass(frozen=True)
class CatalogueGrowth:
    """What a catalogue of so many entries costs, in seconds.

    `process_seconds` is a whole `dagster definitions validate`; of such a process the imports
    take `import_seconds` and the definitions `build_seconds`. A tick is the catalogue sensor's,
    at the vendor's limit and latency; a changed one found a new metric and includes the reload.
    `arrivals` go from the vendor adding a metric, at the worst moment, right after a look at the
    catalogue, to the asset being in `dagster dev`'s GraphQL. `empty_seconds` is what a reload takes
    until a new one of as many assets that do nothing is there.
    """

    entries: int
    process_seconds: float
    import_seconds: float
    build_seconds: float
    unchanged_tick_seconds: float
    changed_tick_seconds: float
    arrivals: tuple[float, ...]
    empty_seconds: float

    def __str__(self) -> str:
        arrivals = ", ".join(f"{seconds:.1f}" for seconds in self.arrivals)
        return (
            f"{self.entries} entries: code location {self.process_seconds:.1f} s (imports "
            f"{self.import_seconds:.1f}, definitions {self.build_seconds:.2f}); catalogue tick "
            f"{self.unchanged_tick_seconds:.1f} s, {self.changed_tick_seconds:.1f} s with a new "
            f"metric and reload; new metric visible after {arrivals} s at worst (target: at most "
            f"{LOOK_SECONDS + 5}); {self.empty_seconds:.1f} s for as many that do nothing"
        )


def measure_catalogue(folder: Path, *, quick: bool = False) -> list[CatalogueGrowth]:
    """The built-in catalogue, and one grown to many entries."""
    found = []
    for entries in (BUILT_IN, QUICK_ENTRIES if quick else ENTRIES):
        place = folder / str(entries)
        place.mkdir(parents=True)
        with running_simulator(*VENDOR) as simulator:
            grow(simulator, entries)
            process, imports, build = time_code_location(simulator, place)
            unchanged, changed = time_ticks(simulator, place)
        arrivals, empty = time_arrivals(place / "dev", entries)
        found.append(
            CatalogueGrowth(entries, process, imports, build, unchanged, changed, arrivals, empty)
        )
    return found


def grow(simulator: Simulator, entries: int) -> None:
    """Add copies of the built-in entries, related among each other, until there are so many."""
    left = entries - BUILT_IN
    for number in count(2):
        for kind, one in (
            *(("metrics", metric) for metric in METRICS.values()),
            *(("records", record) for record in RECORDS.values()),
        ):
            if not left:
                return
            entry = one.to_api()
            entry["id"] = f"{one.id}_{number}"
            for related in ("relatedRecordIds", "relatedMetricIds"):
                if related in entry:
                    entry[related] = [f"{other}_{number}" for other in entry[related]]
            simulator.tell(kind, entry=entry, like=one.id)
            left -= 1


# What a process that loads the code location does, in parts: imports, then definitions.
LOAD = """
import json, sys, time
began = time.perf_counter()
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.component import DixaAnalytics
imported = time.perf_counter()
catalogue = Catalogue.from_json(open(sys.argv[1]).read())
DixaAnalytics().build_definitions(catalogue).get_repository_def()
print(json.dumps([imported - began, time.perf_counter() - imported]))
"""


def time_code_location(simulator: Simulator, folder: Path) -> tuple[float, float, float]:
    """Median seconds to load the code location: whole process, imports, definitions."""
    settings = settings_for(simulator, folder)
    state = folder / "catalogue.json"
    state.write_text(fetched(component(simulator, folder)).to_json())
    store = ["dagster_dg_cli.cli", "utils", "refresh-defs-state", "--target-path", str(PROJECT)]
    done = run(store, settings)
    assert done.returncode == 0, done.stdout + done.stderr
    validate = ["dagster", "definitions", "validate", "-w", str(PROJECT / "workspace.yaml")]
    whole, parts = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        done = run(validate, settings)
        whole.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stdout + done.stderr
        probe = subprocess.run(
            [sys.executable, "-c", LOAD, str(state)],
            env=settings, cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        parts.append(json.loads(probe.stdout))
    imports, build = map(statistics.median, zip(*parts, strict=True))
    return statistics.median(whole), imports, build


def time_ticks(simulator: Simulator, folder: Path) -> tuple[float, float]:
    """Median seconds of a catalogue tick without a change, and of one with a new metric."""
    settings = settings_for(simulator, folder)
    socket = str(folder / "socket")
    command = ["dagster", "code-server", "start", "--socket", socket]
    command += ["-m", "dixa_assets.definitions", "--location-name", "dixa_assets"]
    target = GrpcServerTarget(
        host="localhost", port=None, socket=socket, location_name="dixa_assets"
    )
    with (
        running(command, settings, folder / "code-server.log"),
        dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance,
    ):
        wait_until(Path(socket).exists, seconds=120, what="the code server")
        with WorkspaceProcessContext(instance, target) as context:

            def repository() -> RemoteRepository:
                location = context.create_request_context().get_code_location("dixa_assets")
                return next(iter(location.get_repositories().values()))

            def tick(expected: str) -> float:
                location = context.create_request_context().get_code_location("dixa_assets")
                handle = repository().handle
                began = time.perf_counter()
                data = location.get_sensor_execution_data(
                    instance, handle, "dixa_catalogue", None, None, None, None, None
                )
                seconds = time.perf_counter() - began
                assert expected in str(data.skip_message), data.skip_message
                return seconds

            unchanged, changed = [], []
            for number in range(REPEATS):
                unchanged.append(tick("nothing new"))
                metric = f"brand_new_{number}"
                simulator.tell("metrics", entry={"id": metric}, like="csat")
                changed.append(tick("The code location was reloaded"))
                key = asset_key(f"dixa_metrics/{metric}")
                wait_until(
                    lambda key=key: key in repository().asset_graph.get_all_asset_keys(),
                    seconds=60,
                    what="the new asset",
                )
    return statistics.median(unchanged), statistics.median(changed)


VISIBLE = "query ($key: [String!]!) { assetNodeOrError(assetKey: {path: $key}) { __typename } }"
RECENT_RUNS = "{ runsOrError(limit: 20) { ... on Runs { results { status endTime } } } }"


def time_arrivals(folder: Path, entries: int) -> tuple[tuple[float, ...], float]:
    """Seconds from the vendor adding a metric to the asset being visible, three times.

    And the median of the seconds that Dagster takes for as many assets that do nothing.
    """
    seconds = []
    look = str(LOOK_SECONDS)
    with dagster_dev(folder, *VENDOR, DIXA_CATALOGUE_REFRESH_SECONDS=look) as dagster:
        settled(dagster)
        if entries > BUILT_IN:
            grow(dagster.simulator, entries)
            arrival(dagster, "the_last_of_many")
            settled(dagster)
        for number in range(REPEATS):
            seconds.append(arrival(dagster, f"brand_new_{number}"))
            settled(dagster)
        reload_empty(dagster, entries)
        empty = [reload_empty(dagster, entries + 1 + number) for number in range(REPEATS)]
    return tuple(seconds), statistics.median(empty)


RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "empty") {
    __typename ... on PythonError { message } } }"""


def reload_empty(dagster: Dagster, number: int) -> float:
    """Seconds until the last of so many assets that do nothing is there, after a reload."""
    (dagster.folder / "number").write_text(f"{number}")
    began = time.perf_counter()
    dagster.ask(RELOAD)
    wait_until(
        lambda: (
            dagster.ask(VISIBLE, key=[f"empty_{number - 1}"])["assetNodeOrError"]["__typename"]
            == "AssetNode"
        ),
        seconds=180,
        what="an asset that does nothing",
    )
    return time.perf_counter() - began


def arrival(dagster: Dagster, metric: str) -> float:
    """Add a metric right after a look at the catalogue; seconds until it is an asset."""
    dagster.simulator.forget_requests()
    wait_until(
        lambda: any(
            each["operation"] == "getAnalyticsRecords" for each in dagster.simulator.requests()
        ),
        seconds=60,
        what="a look at the catalogue",
    )
    # The records are listed last; their pages take less than this.
    time.sleep(1)
    dagster.simulator.tell("metrics", entry={"id": metric}, like="csat")
    began = time.perf_counter()
    wait_until(
        lambda: (
            dagster.ask(VISIBLE, key=["dixa_metrics", metric])["assetNodeOrError"]["__typename"]
            == "AssetNode"
        ),
        seconds=180,
        what=f"the asset of {metric}",
    )
    return time.perf_counter() - began


def settled(dagster: Dagster) -> None:
    """Return when everything the history sensor asks for by itself has been loaded.

    It looks every 15 s, so that nothing begins for 20 s only when nothing is missing.
    """

    def calm() -> bool:
        runs = dagster.ask(RECENT_RUNS)["runsOrError"]["results"]
        return (
            bool(runs)
            and all(run["status"] in DONE for run in runs)
            and time.time() - max(run["endTime"] for run in runs) > 20
        )

    wait_until(calm, seconds=600, what="the end of the sensor's loads")


# ------------------------------------------------------------------------------------ the history


@dataclass(frozen=True)
class HistoryGrowth:
    """Loads on an instance and a database without a past, and on those with years of it.

    `seconds` and `cpu_seconds` are per loaded partition, `tick_seconds` those of one history
    sensor evaluation; first without, then with history. Other programs disturb the seconds of
    the clock more than those of the processor.
    """

    assets: int
    days: int
    seconds: tuple[float, float]
    cpu_seconds: tuple[float, float]
    tick_seconds: tuple[float, float]
    index_megabytes: float
    database_megabytes: float
    # Of each measurement.
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Time per loaded partition with history over that without."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return (
            f"{self.assets} assets x {self.days:,} days of history (event log "
            f"{self.index_megabytes:,.0f} MB, database {self.database_megabytes:,.0f} MB): "
            f"{1000 * self.seconds[0]:.0f} ms per loaded partition without, "
            f"{1000 * self.seconds[1]:.0f} ms with, ratio {self.ratio:.2f} (target: at most 1.1), "
            f"of processor time {self.cpu_seconds[1] / self.cpu_seconds[0]:.2f}; "
            f"history tick {self.tick_seconds[0]:.2f} s without, {self.tick_seconds[1]:.2f} s with"
        )


@dataclass(frozen=True)
class Place:
    """A Dagster instance with a database of its own."""

    home: Path
    instance: dg.DagsterInstance
    analytics: DixaAnalytics
    catalogue: Catalogue

    def load(self, keys: Sequence[str], days: Sequence[str]) -> tuple[float, float]:
        """Seconds of the clock and of the processor to load consecutive days of the assets."""
        began, cpu_began = time.perf_counter(), time.process_time()
        with redirect_stderr(io.StringIO()):
            done = load(
                self.analytics, keys, days[0], days[-1],
                instance=self.instance, catalogue=self.catalogue,
            )  # fmt: skip
        assert done.success
        return time.perf_counter() - began, time.process_time() - cpu_began


def measure_history(folder: Path, *, quick: bool = False) -> HistoryGrowth:
    """Load the same days without and with history, in turns; five times three rounds."""
    past, at_once = (QUICK_DAYS, 2) if quick else (YEARS_DAYS, 5)
    keys = some_assets(3, 3) if quick else some_assets(10, 10)
    today = datetime.now(UTC).date()
    rounds = ROUNDS * MEASUREMENTS
    new = days_before(today, rounds * at_once)
    history = days_before(date.fromisoformat(new[0]), past)
    with (
        running_simulator("--rate", "0") as simulator,
        place_of(simulator, folder / "empty", keys) as empty,
        place_of(simulator, folder / "grown", keys) as grown,
    ):
        # One real day each, so that both have their tables; the grown one's is copied.
        empty.load(keys, history[-1:])
        grown.load(keys, history[:1])
        repeat_database(grown.analytics, past)
        repeat_event_log(grown.home / "history", history[0], past)
        for key in keys:
            seen = grown.instance.event_log_storage.get_materialized_partitions(asset_key(key))
            assert seen == set(history), (key, len(seen))
        # What was copied goes to the disk now, not while loads are timed.
        os.sync()
        seconds: list[list[float]] = [[], []]
        cpu_seconds: list[list[float]] = [[], []]
        ticks: list[list[float]] = [[], []]
        for number in range(rounds):
            days = new[number * at_once : (number + 1) * at_once]
            # They take turns at going first, so that a trend of the machine favours neither.
            for which in (0, 1) if number % 2 else (1, 0):
                place = (empty, grown)[which]
                took, cpu_took = place.load(keys, days)
                seconds[which].append(took / len(keys) / len(days))
                cpu_seconds[which].append(cpu_took / len(keys) / len(days))
                ticks[which].append(time_history_tick(place))
        return HistoryGrowth(
            len(keys),
            past,
            medians(seconds),
            medians(cpu_seconds),
            medians(ticks),
            megabytes(grown.home / "history" / "runs" / "index.db"),
            megabytes(Path(grown.analytics.duckdb_path)),
            tuple(
                statistics.median(with_history) / statistics.median(without)
                for without, with_history in zip(*map(in_parts, seconds), strict=True)
            ),
        )


def in_parts(values: Sequence[float]) -> list[Sequence[float]]:
    """The values of each of the measurements, which follow each other."""
    size = len(values) // MEASUREMENTS
    return [values[number * size : (number + 1) * size] for number in range(MEASUREMENTS)]


def medians(values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The median of each of two lists."""
    first, second = values
    return statistics.median(first), statistics.median(second)


def days_before(day: date, number: int) -> list[str]:
    """So many days before a day, oldest first."""
    return [(day - timedelta(days=back)).isoformat() for back in range(number, 0, -1)]


def asset_key(key: str) -> dg.AssetKey:
    """The key of `schema/relation`."""
    return dg.AssetKey(key.split("/"))


@contextmanager
def place_of(simulator: Simulator, folder: Path, keys: Sequence[str]) -> Iterator[Place]:
    """A new place whose catalogue has the entries of `keys` and no others."""
    folder.mkdir(parents=True)
    home = Path(settings_for(simulator, folder)["DAGSTER_HOME"])
    analytics = component(simulator, folder, start_date=FIRST_DAY.isoformat(), history_days=0)
    catalogue = fetched(analytics)
    entries = [each for each in catalogue.entries if f"{each.schema}/{each.name}" in keys]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Place(home, instance, analytics, replace(catalogue, entries=tuple(entries)))


def repeat_database(analytics: DixaAnalytics, days: int) -> None:
    """Copy the one loaded day of every table to the days after it, `days` in all."""
    warehouse = analytics.build_warehouse()
    tables = warehouse.query(
        "SELECT schema_name, table_name, "
        "list(column_name) FILTER (data_type = 'TIMESTAMP WITH TIME ZONE' "
        "AND column_name <> 'loaded_at') AS instants "
        "FROM duckdb_columns() JOIN duckdb_tables() USING (schema_name, table_name) "
        "GROUP BY ALL HAVING count(*) FILTER (column_name = 'partition_date') > 0"
    )
    for table in tables.itertuples():
        relation = f'"{table.schema_name}"."{table.table_name}"'
        moved = "".join(f', "{name}" + to_days(n) AS "{name}"' for name in table.instants)
        warehouse.query(
            f"INSERT INTO {relation} SELECT loaded.* REPLACE ((partition_date + n)::DATE AS "
            f"partition_date, {run_id_in('format', '{:08x}')} AS run_id{moved}) "
            f"FROM {relation} AS loaded, (SELECT range::INTEGER AS n FROM range(1, ?)) "
            "WHERE partition_date IS NOT NULL ORDER BY n",
            [days],
        )


def repeat_event_log(history: Path, day: str, days: int) -> None:
    """Copy what the one run that loaded `day` left in the shared event log to the days after it.

    As if each day had been loaded by a run of its own: run, events, check executions. Each run's
    own file of events is left out: only the page of that run reads it.
    """
    series = (
        "WITH RECURSIVE each_day(n) AS "
        f"(SELECT 1 UNION ALL SELECT n + 1 FROM each_day WHERE n < {days - 1})"
    )
    with closing(sqlite3.connect(history / "runs" / "index.db")) as index, index:
        (run_id,) = index.execute("SELECT DISTINCT run_id FROM event_logs").fetchone()
        (block,) = index.execute("SELECT max(id) FROM event_logs").fetchone()
        for table in ("event_logs", "asset_event_tags", "asset_check_executions"):
            copy(index, table, series, run_id, day, block)
    with closing(sqlite3.connect(history / "runs.db")) as runs, runs:
        for table in ("runs", "run_tags"):
            copy(runs, table, series, run_id, day, 0)


# Columns that number events; a copy's events come a whole block of events later.
EVENT_IDS = {"event_id", "evaluation_event_storage_id", "materialization_event_storage_id"}


def copy(
    database: sqlite3.Connection, table: str, series: str, run_id: str, day: str, block: int
) -> None:
    """Copy a table's rows for every n of `series`, with another run, day and event numbers."""
    described = database.execute(f'PRAGMA table_info("{table}")').fetchall()
    other_run = run_id_in("printf", "%08x", run_id)
    chosen = {}
    for _, name, type_, *_ in described:
        if name in EVENT_IDS or (name == "id" and table == "event_logs"):
            chosen[name] = f'"{name}" + n * {block}'
        elif name == "id":
            continue
        elif name in ("snapshot_id", "timestamp", "create_timestamp", "update_timestamp"):
            chosen[name] = f'"{name}"'
        elif type_.startswith(("TEXT", "VARCHAR")):
            chosen[name] = (
                f"replace(replace(\"{name}\", '{day}', date('{day}', n || ' days')), "
                f"'{run_id}', {other_run})"
            )
        else:
            chosen[name] = f'"{name}"'
    names = ", ".join(f'"{name}"' for name in chosen)
    database.execute(
        f'INSERT INTO "{table}" ({names}) {series} SELECT {", ".join(chosen.values())} '
        f'FROM each_day, "{table}" ORDER BY n, "{table}".id'
    )


def run_id_in(function: str, pattern: str, run_id: str = "") -> str:
    """SQL for the id of the n-th copy of a run: the same in both databases."""
    of = f"'{run_id}'" if run_id else "run_id"
    return f"{function}('{pattern}', n) || substr({of}, 9)"


def time_history_tick(place: Place) -> float:
    """Seconds of one evaluation of the history sensor that has yet to look at everything."""
    analytics = place.analytics.model_copy(update={"history_days": 30})
    definitions = analytics.build_definitions(place.catalogue)
    sensor = next(each for each in definitions.sensors or () if each.name == "dixa_history")
    context = dg.build_sensor_context(
        instance=place.instance, repository_def=definitions.get_repository_def()
    )
    began = time.perf_counter()
    assert isinstance(sensor(context), dg.SensorResult)
    return time.perf_counter() - began


def megabytes(path: Path) -> float:
    """A file's size in 10^6 bytes."""
    return path.stat().st_size / 1e6


# --------------------------------------------------------------------------------------- the file


@dataclass(frozen=True)
class FileState:
    """The database file: its bytes, its blocks, and how many of those hold nothing."""

    size: int
    blocks: int
    free: int

    @classmethod
    def of(cls, analytics: DixaAnalytics) -> "FileState":
        """The state now."""
        pragma = analytics.build_warehouse().query("PRAGMA database_size")
        size = Path(analytics.duckdb_path).stat().st_size
        return cls(size, int(pragma.total_blocks[0]), int(pragma.free_blocks[0]))

    def __str__(self) -> str:
        return f"{self.size / 1e6:.1f} MB ({self.free} of {self.blocks} blocks free)"


@dataclass(frozen=True)
class FileGrowth:
    """The database after each load of the same days: the first wrote, the others replaced."""

    assets: int
    days: int
    states: tuple[FileState, ...]
    compact: int

    @property
    def ratio(self) -> float:
        """File size after the last load over that after the first."""
        return self.states[-1].size / self.states[0].size

    def __str__(self) -> str:
        return (
            f"{self.assets} assets x {self.days} days, written and {len(self.states) - 1} times "
            f"replaced: {', '.join(map(str, self.states))}; ratio {self.ratio:.2f} (target: at "
            f"most 1.5); copied to a new file the end takes {self.compact / 1e6:.1f} MB"
        )


def measure_file(folder: Path, *, quick: bool = False) -> FileGrowth:
    """Load the same days of records and metrics four times."""
    days = days_before(datetime.now(UTC).date(), 8 if quick else 30)
    keys = some_assets(4, 4) if quick else some_assets(20, 10)
    states = []
    with (
        running_simulator("--rate", "0") as simulator,
        place_of(simulator, folder / "file", keys) as place,
    ):
        for _ in range(4):
            place.load(keys, days)
            states.append(FileState.of(place.analytics))
        return FileGrowth(len(keys), len(days), tuple(states), compact_size(place.analytics))


def compact_size(analytics: DixaAnalytics) -> int:
    """Bytes of a new file with the same content."""
    path = Path(analytics.duckdb_path)
    copied = path.with_name("compact.duckdb")
    with analytics.build_warehouse().reading() as ask:
        ask(f"ATTACH '{copied}' AS compact (STORAGE_VERSION 'v1.5.0')")
        ask(f'COPY FROM DATABASE "{path.stem}" TO compact')
        ask("DETACH compact")
    return copied.stat().st_size


CASES: dict[str, Callable[..., Any]] = {
    "catalogue": measure_catalogue,
    "history": measure_history,
    "file": measure_file,
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench.growth")
    parser.add_argument("--case", choices=CASES, action="append", help="all when left out")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    options = parser.parse_args()
    warnings.simplefilter("ignore", dg.BetaWarning)
    for case in options.case or CASES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="growth-") as folder:
            found = CASES[case](Path(folder), quick=options.quick)
        for line in found if isinstance(found, list) else [found]:
            print(line)
        print(f"{case}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
