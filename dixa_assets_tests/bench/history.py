"""The cost of years of history, and of days that are replaced."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import dagster as dg

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.bench.dagster_runs import days_until, some_assets
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.support.processes import settings_for
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Simulator, running_simulator

MEASUREMENTS, ROUNDS = 5, 3


@dataclass(frozen=True)
class Place:
    """A Dagster instance with a database of its own."""

    home: Path
    instance: dg.DagsterInstance
    analytics: DixaAnalytics
    catalogue: Catalogue

    def load(self, keys: Sequence[str], days: Sequence[str]) -> float:
        """Load consecutive days of some assets; seconds of each loaded partition."""
        began = time.perf_counter()
        done = load(
            self.analytics,
            keys,
            days[0],
            days[-1],
            instance=self.instance,
            catalogue=self.catalogue,
        )
        assert done.success
        return (time.perf_counter() - began) / len(keys) / len(days)


@contextmanager
def place_of(simulator: Simulator, folder: Path, keys: Sequence[str]) -> Iterator[Place]:
    """A new place whose catalogue has the entries of `keys` and no others."""
    folder.mkdir()
    home = Path(settings_for(simulator, folder)["DAGSTER_HOME"])
    analytics = component(simulator, folder, start_date="2020-01-01", history_days=0)
    catalogue = fetched(analytics)
    entries = [each for each in catalogue.entries if f"{each.schema}/{each.name}" in keys]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Place(home, instance, analytics, replace(catalogue, entries=tuple(entries)))


def history(folder: Path, quick: bool) -> Iterator[Found]:
    """Load the same days without and with history, by turns."""
    past, at_once = (200, 2) if quick else (5 * 365, 5)
    keys = some_assets(3, 3) if quick else some_assets(10, 10)
    new = days_until(1, MEASUREMENTS * ROUNDS * at_once)
    before = date.fromisoformat(new[0])
    history = [str(before - timedelta(days=back)) for back in range(past, 0, -1)]
    with (
        running_simulator("--rate", "0") as simulator,
        place_of(simulator, folder / "empty", keys) as empty,
        place_of(simulator, folder / "grown", keys) as grown,
    ):
        # A real day makes the tables of both; that of `grown` is copied.
        empty.load(keys, history[-1:])
        grown.load(keys, history[:1])
        repeat_database(grown.analytics, past)
        repeat_event_log(grown.home / "history", history[0], past)
        for key in keys:
            seen = grown.instance.get_materialized_partitions(dg.AssetKey(key.split("/")))
            assert seen == set(history), (key, len(seen))
        # The copies must not go to the disk while loads are timed.
        os.sync()
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(MEASUREMENTS * ROUNDS):
            days = new[number * at_once : (number + 1) * at_once]
            # Each goes first by turns, so that a trend of the machine favours neither.
            for which in (0, 1) if number % 2 else (1, 0):
                seconds[which].append((empty, grown)[which].load(keys, days))
    without, with_history = ([median(part) for part in in_parts(each)] for each in seconds)
    yield Found(
        ours=f"{1000 * median(seconds[1]):.0f} ms",
        floor=f"{1000 * median(seconds[0]):.0f} ms on an empty instance",
        values=[after / before for after, before in zip(with_history, without, strict=True)],
    )


def in_parts(values: Sequence[float]) -> list[Sequence[float]]:
    """The rounds of each measurement."""
    return [values[start : start + ROUNDS] for start in range(0, len(values), ROUNDS)]


def repeat_database(analytics: DixaAnalytics, days: int) -> None:
    """Copy the one loaded day of every table to the days after it, `days` in all."""
    warehouse = analytics.build_warehouse()
    tables = warehouse.query(
        "SELECT schema_name, table_name FROM duckdb_columns() JOIN duckdb_tables() "
        "USING (schema_name, table_name) WHERE column_name = 'partition_date'"
    )
    for table in tables.itertuples():
        relation = f'"{table.schema_name}"."{table.table_name}"'
        warehouse.query(
            f"INSERT INTO {relation} SELECT loaded.* REPLACE ((partition_date + n)::DATE AS "
            f"partition_date, format('{{:08x}}', n) || substr(run_id, 9) AS run_id) "
            f"FROM {relation} AS loaded, (SELECT range::INTEGER AS n FROM range(1, ?)) "
            "WHERE partition_date IS NOT NULL ORDER BY n",
            [days],
        )


# Columns that number events. The events of each copy come after those of the copy before.
EVENT_IDS = {"event_id", "evaluation_event_storage_id", "materialization_event_storage_id"}
INSTANTS = {"snapshot_id", "timestamp", "create_timestamp", "update_timestamp"}


def repeat_event_log(history: Path, day: str, days: int) -> None:
    """Copy what the run of `day` left in Dagster's event log to the days after it.

    The result is that of a run for each day: run, events, check executions. Only the page of a run
    reads the run's own file of events, which is not copied.
    """
    with closing(sqlite3.connect(history / "runs" / "index.db")) as index, index:
        (run_id,) = index.execute("SELECT DISTINCT run_id FROM event_logs").fetchone()
        (block,) = index.execute("SELECT max(id) FROM event_logs").fetchone()
        for table in ("event_logs", "asset_event_tags", "asset_check_executions"):
            repeat(index, table, run_id, day, days, block)
    with closing(sqlite3.connect(history / "runs.db")) as runs, runs:
        for table in ("runs", "run_tags"):
            repeat(runs, table, run_id, day, days, 0)


def repeat(
    database: sqlite3.Connection, table: str, run_id: str, day: str, days: int, block: int
) -> None:
    """Copy a table's rows for each day after the first, with another run, day and event number."""
    values = {}
    for _, name, type_, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
        if name in EVENT_IDS or (name == "id" and table == "event_logs"):
            values[name] = f'"{name}" + n * {block}'
        elif type_.startswith(("TEXT", "VARCHAR")) and name not in INSTANTS:
            values[name] = (
                f"replace(replace(\"{name}\", '{day}', date('{day}', n || ' days')), "
                f"'{run_id}', printf('%08x', n) || '{run_id[8:]}')"
            )
        elif name != "id":
            values[name] = f'"{name}"'
    names = ", ".join(f'"{name}"' for name in values)
    database.execute(
        f'INSERT INTO "{table}" ({names}) WITH RECURSIVE each_day(n) AS '
        f"(SELECT 1 UNION ALL SELECT n + 1 FROM each_day WHERE n < {days - 1}) "
        f'SELECT {", ".join(values.values())} FROM each_day, "{table}" ORDER BY n, "{table}".id'
    )


def file_size(folder: Path, quick: bool) -> Iterator[Found]:
    """Load the same days of records and metrics four times."""
    days = days_until(1, 8 if quick else 30)
    keys = some_assets(4, 4) if quick else some_assets(20, 10)
    sizes = []
    with (
        running_simulator("--rate", "0") as simulator,
        place_of(simulator, folder / "file", keys) as place,
    ):
        for _ in range(4):
            place.load(keys, days)
            sizes.append(Path(place.analytics.duckdb_path).stat().st_size)
    yield Found(
        ours=f"{sizes[-1] / 1e6:.1f} MB",
        floor=f"{sizes[0] / 1e6:.1f} MB freshly written",
        values=[sizes[-1] / sizes[0]],
    )
