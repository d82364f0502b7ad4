"""Real loads in processes that may be killed, and what is wrong with the database afterwards.

Needs Linux: /proc tells whether a load is writing.
"""

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import duckdb

from dixa_assets.orchestration.partitions import build_partitions_def, to_ranges
from dixa_assets_tests.support.processes import settings_for, store_catalogue
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.simulator import COPENHAGEN, Simulator
from dixa_assets_tests.support.truth import PERIODS, Partition, Rows, rows_in

# Assets, the first day and the last one.
Job = tuple[tuple[str, ...], str, str]


@dataclass(frozen=True)
class Place:
    """A work folder: its settings, its database and its Dagster instance."""

    settings: dict[str, str]
    instance: dg.DagsterInstance

    @property
    def database(self) -> Path:
        return Path(self.settings["DIXA_DUCKDB_PATH"])

    def reported(self, assets: Iterable[str]) -> set[Partition]:
        """The partitions that Dagster calls materialized."""
        return {
            (asset, day)
            for asset in assets
            for day in self.instance.get_materialized_partitions(dg.AssetKey(asset.split("/")))
        }

    def leftovers(self) -> list[str]:
        """The names of the files in the staging folder."""
        root = Path(f"{self.database}.staging")
        return sorted(path.name for path in root.iterdir()) if root.exists() else []


@dataclass
class Tally:
    """Whatever is in `violations` must not happen."""

    kills: int = 0
    violations: Counter[str] = field(default_factory=Counter)

    def note(self, **found: int) -> None:
        """Add violations, by their names with underscores."""
        self.violations += Counter({name.replace("_", " "): n for name, n in found.items()})

    def note_database(self, verdict: "Verdict", expected: Iterable[Partition] = ()) -> None:
        """Add what is wrong with a database, and the expected partitions that it lacks."""
        self.note(
            lost=len({*expected} - verdict.present),
            duplicated=len(verdict.duplicated),
            half_written=len(verdict.half_written),
            disagreements_of_the_log=len(verdict.disagreeing),
        )

    def note_end(self, place: Place, verdict: "Verdict", assets: Iterable[str]) -> None:
        """Add what differs after the last load: Dagster from the database, and staging files."""
        self.note(
            days_Dagster_and_the_table_disagree_about=len(verdict.present ^ place.reported(assets)),
            staging_leftovers=len(place.leftovers()),
        )

    def listed_violations(self) -> str:
        """The violations, with the usual ones even if there are none."""
        usual = dict.fromkeys(("lost", "duplicated", "half written"), 0)
        return listed(usual | self.violations)


def listed(counts: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


@dataclass(frozen=True)
class Verdict:
    """The partitions in a database, and those that are not as they should be."""

    present: frozenset[Partition] = frozenset()
    duplicated: frozenset[Partition] = frozenset()
    half_written: frozenset[Partition] = frozenset()
    disagreeing: frozenset[str] = frozenset()


def judge(database: Path, truth: Mapping[Partition, Rows], assets: Collection[str]) -> Verdict:
    """Compare each partition of a database with the truth, and with the load log."""
    if not database.exists():
        return Verdict()
    # Opened for writing, DuckDB recovers what a killed process left.
    with duckdb.connect(str(database)) as connection:
        tables = connection.execute("SELECT schema_name || '/' || table_name FROM duckdb_tables()")
        is_logged = ("dixa_catalogue/loads",) in tables.fetchall()
        logged = wrong_columns = []
        if is_logged:
            logged = connection.execute(
                "SELECT asset_key, CAST(partition_date AS VARCHAR), rows FROM "
                "dixa_catalogue.loads WHERE partition_date IS NOT NULL"
            ).fetchall()
            wrong_columns = undescribed_columns(connection)
    found = rows_in(database, *assets)
    with_periods = with_period_rows(found, database)
    noted = {(asset, day): rows for asset, day, rows in logged}
    keys = found.keys() | noted.keys()
    wrong = {key for key in keys if with_periods.get(key, Rows()) != truth.get(key)}
    duplicated = {key for key in wrong & found.keys() if with_periods[key] > truth.get(key, Rows())}
    disagreeing = {
        f"{key}: {found.get(key, Rows()).total()} rows, {noted.get(key)} in the log"
        for key in keys
        if noted.get(key) != found.get(key, Rows()).total()
    }
    if len(logged) != len(noted):
        disagreeing.add("a load is in the log twice")
    return Verdict(
        present=frozenset(noted),
        duplicated=frozenset(duplicated),
        half_written=frozenset(wrong - duplicated),
        disagreeing=frozenset(disagreeing).union(wrong_columns),
    )


def with_period_rows(found: Mapping[Partition, Rows], database: Path) -> dict[Partition, Rows]:
    """The rows of partitions, with those of the weeks and months that end with their days."""
    whole = dict(found)
    for (_, day), rows in rows_in(database, PERIODS).items():
        for row in rows.elements():
            key = f"dixa_metrics/{json.loads(row)['metric']}", day
            whole[key] = whole.get(key, Rows()) + Rows([row])
    return whole


def undescribed_columns(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Columns that exist and are not in `dixa_catalogue.columns`, or the other way round."""
    rows = connection.execute(
        "SELECT coalesce(d.table_name, c.table_name) || '.' "
        "|| coalesce(d.column_name, c.column_name) "
        "FROM (SELECT * FROM duckdb_columns() WHERE (schema_name, table_name) IN "
        "(SELECT (schema_name, table_name) FROM duckdb_tables())) AS d "
        "FULL JOIN dixa_catalogue.columns AS c ON d.schema_name = c.table_schema "
        "AND d.table_name = c.table_name AND d.column_name = c.column_name "
        "WHERE d.column_name IS NULL OR c.column_name IS NULL"
    ).fetchall()
    return [f"column {name}" for (name,) in rows]


def stored_catalogue(simulator: Simulator, folder: Path) -> Path:
    """A DAGSTER_HOME in which the catalogue has been stored."""
    folder.mkdir(parents=True)
    settings = settings_for(simulator, folder)
    store_catalogue(settings)
    return Path(settings["DAGSTER_HOME"])


@contextmanager
def work_place(simulator: Simulator, folder: Path, catalogue: Path, **more: str) -> Iterator[Place]:
    """A new work folder that knows the catalogue; `more` are environment variables."""
    shutil.copytree(catalogue, folder / "dagster_home")
    settings = settings_for(simulator, folder, **more)
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        yield Place(settings, instance)


def materialize(assets: Sequence[str], first: str, last: str) -> list[str]:
    """The command of a load."""
    command = ["dagster", "asset", "materialize", "-m", "dixa_assets.definitions"]
    command += ["--select", " or ".join(f"key:{asset}" for asset in assets)]
    return [*command, "--partition-range", f"{first}...{last}"]


def partitions_of(assets: Iterable[str], first: str, last: str) -> set[Partition]:
    """Every day from `first` to `last` of each asset."""
    return {(asset, day.isoformat()) for asset in assets for day in days(first, last)}


def missing_ranges(missing: Collection[Partition]) -> list[Job]:
    """Partitions as jobs, the largest first; assets that lack the same days share a job."""
    partitions_def = build_partitions_def("2025-01-01", COPENHAGEN)
    assets_by_range: dict[tuple[str, str], list[str]] = {}
    for asset in sorted({asset for asset, _ in missing}):
        lacking = sorted(day for each, day in missing if each == asset)
        for each in to_ranges(partitions_def, lacking):
            assets_by_range.setdefault(each, []).append(asset)
    loads = [(tuple(assets), *each) for each, assets in assets_by_range.items()]
    return sorted(loads, key=lambda one: -len(one[0]) * len(days(one[1], one[2])))
