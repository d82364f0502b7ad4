"""Kills real loads at random moments and looks for days that were lost, doubled or half written.

Run as `python -m dixa_assets_tests.stress.crash --kills 50 --seed 1`. One backfill after the other
is killed, resumed with the days Dagster calls missing, killed again and at last brought to its
end. Needs Linux: /proc tells whether a load is writing.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx

from dixa_assets.model.days import Window
from dixa_assets.orchestration.partitions import build_partitions_def, to_ranges
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.processes import (
    PROJECT,
    folder_of_command,
    run,
    running,
    settings_for,
)
from dixa_assets_tests.support.scenario import component, days, load
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Simulator, running_simulator

Partition = tuple[str, str]
Rows = Counter[str]

ASSETS = (
    "dixa_metrics/agent_presence_duration",
    "dixa_metrics/closed_conversations",
    "dixa_records/messages_sent",
)
FIRST, LAST = "2025-10-07", "2025-10-28"
# How often each phase is aimed at; where a kill lands is looked at, not assumed.
AIMS = {"start": 15, "fetching": 25, "writing": 30, "reporting": 20, "ending": 10}
LONGEST_RUN_SECONDS = 180.0


@dataclass(frozen=True)
class Place:
    """A work folder: its settings, its database, what Dagster knows of it."""

    settings: dict[str, str]
    instance: dg.DagsterInstance

    @property
    def database(self) -> Path:
        return Path(self.settings["DIXA_DUCKDB_PATH"])

    def reported(self, assets: Iterable[str]) -> set[Partition]:
        """The partitions Dagster calls materialised, asked for as the history sensor does."""
        storage = self.instance.event_log_storage
        return {
            (asset, day)
            for asset in assets
            for day in storage.get_materialized_partitions(dg.AssetKey(asset.split("/")))
        }

    def leftovers(self) -> list[str]:
        """What lies in the staging folder."""
        root = Path(f"{self.database}.staging")
        return sorted(path.name for path in root.iterdir()) if root.exists() else []


@dataclass(frozen=True)
class Verdict:
    """The partitions in a database, and those that are not as they should be."""

    present: frozenset[Partition] = frozenset()
    duplicated: frozenset[Partition] = frozenset()
    half_written: frozenset[Partition] = frozenset()
    disagreeing: frozenset[str] = frozenset()


@dataclass
class Tally:
    """What all kills together came to. Whatever is in `violations` must not happen."""

    kills: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    with_log: int = 0
    backfills: int = 0
    kept: int = 0
    unreported: int = 0
    violations: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {count}" for phase, count in sorted(self.phases.items()))
        wrong = {name: self.violations[name] for name in ("lost", "duplicated", "half-written")}
        wrong |= self.violations
        return (
            f"{self.kills} kills ({phases}; {self.with_log} left a write-ahead log), "
            f"{self.backfills} backfills resumed to their end and compared whole, "
            f"{self.kept} partitions kept, {self.unreported} unreported, "
            + ", ".join(f"{count} {name}" for name, count in wrong.items())
        )


def progress(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def crash(
    simulator: Simulator,
    folder: Path,
    *,
    kills: int,
    seed: int,
    assets: Sequence[str] = ASSETS,
    first: str = FIRST,
    last: str = LAST,
    say: Callable[[str], None] = progress,
) -> Tally:
    """Kill loads of `assets` from `first` to `last` until there were `kills` of them."""
    rng = random.Random(seed)
    wanted = partitions_of(assets, first, last)
    truth = undisturbed(simulator, folder / "undisturbed", assets, first, last)
    catalogue = stored_catalogue(simulator, folder / "catalogue")
    tally = Tally()
    while tally.kills < kills:
        backfill = folder / f"backfill_{tally.backfills}"
        with work_place(simulator, backfill, catalogue) as place:
            killed_backfill(simulator, place, truth, wanted, tally, rng, kills, say)
            resume(place, wanted, tally)
            check_whole(place, folder / "undisturbed" / "test.duckdb", truth, tally)
        tally.backfills += 1
        if not tally.violations:
            shutil.rmtree(backfill)
    return tally


def undisturbed(
    simulator: Simulator, folder: Path, assets: Sequence[str], first: str, last: str
) -> dict[Partition, Rows]:
    """The rows of a load nobody kills, by partition; they are the simulator's truth as well."""
    folder.mkdir(parents=True)
    with redirect_stderr(io.StringIO()):
        assert load(component(simulator, folder), assets, first, last).success
    world = World()
    truth = {
        (asset, day.isoformat()): rows_of(world, asset, day)
        for asset in assets
        for day in days(first, last)
    }
    with duckdb.connect(str(folder / "test.duckdb"), read_only=True) as connection:
        assert partitions_in(connection, assets) == {
            key: rows for key, rows in truth.items() if rows
        }
    return truth


def stored_catalogue(simulator: Simulator, folder: Path) -> Path:
    """A DAGSTER_HOME in which the catalogue has been stored."""
    folder.mkdir(parents=True)
    settings = settings_for(simulator, folder)
    done = run(
        ["dagster_dg_cli.cli", "utils", "refresh-defs-state", "--target-path", str(PROJECT)],
        settings,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(settings["DAGSTER_HOME"])


@contextmanager
def work_place(simulator: Simulator, folder: Path, catalogue: Path) -> Iterator[Place]:
    """A new work folder that knows the catalogue."""
    shutil.copytree(catalogue, folder / "dagster_home")
    settings = settings_for(simulator, folder)
    with dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance:
        yield Place(settings, instance)


def killed_backfill(
    simulator: Simulator,
    place: Place,
    truth: Mapping[Partition, Rows],
    wanted: set[Partition],
    tally: Tally,
    rng: random.Random,
    kills: int,
    say: Callable[[str], None],
) -> None:
    """Load what is missing and kill it, again and again, until nothing is missing."""
    assets = sorted({asset for asset, _ in wanted})
    present: frozenset[Partition] = frozenset()
    reported: set[Partition] = set()
    for _ in range(10 * len(wanted)):
        if tally.kills >= kills or not wanted - reported:
            return
        job = missing_ranges(wanted - reported)[0]
        aim = rng.choices([*AIMS], [*AIMS.values()])[0]
        simulator.forget_requests()
        phase = kill_a_load(simulator, place, job, aim, rng)
        unreported = present - reported
        before, reported = present, place.reported(assets)
        tally.with_log += Path(f"{place.database}.wal").exists()
        verdict = judge(copy_of(place.database), truth, assets)
        present = verdict.present
        new = present - reported - unreported
        if phase is None:
            continue
        if phase == "fetching" and new:
            phase = "reporting"
        elif phase == "fetching" and partitions_of(*job) <= reported:
            phase = "ending"
        tally.kills += 1
        tally.phases[phase] += 1
        tally.kept += len(present - before)
        tally.unreported += len(new)
        note(tally, verdict)
        note_lost(tally, (reported | before) - present)
        say(
            f"kill {tally.kills}: aimed at {aim}, hit {phase}; {len(present)} of {len(wanted)} "
            f"days there, {len(present - reported)} unreported"
        )


def kill_a_load(
    simulator: Simulator,
    place: Place,
    job: tuple[tuple[str, ...], str, str],
    aim: str,
    rng: random.Random,
) -> str | None:
    """Start a load, kill it near the moment aimed at; what it was doing, None if it had ended."""
    log = Path(place.settings["HOME"]) / "log"
    with running(materialize(*job), place.settings, log) as process:
        wait_for(aim, simulator, place, process, job, rng)
        with suppress(ProcessLookupError):
            # Standing still it can be looked at; no instruction of it runs between that and death.
            os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.01)
        writing, asked = is_locked(place.database), request_count(simulator)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            return None
    return "writing" if writing else "fetching" if asked else "start"


def wait_for(
    aim: str,
    simulator: Simulator,
    place: Place,
    process: subprocess.Popen[bytes],
    job: tuple[tuple[str, ...], str, str],
    rng: random.Random,
) -> None:
    """Return at a random moment of a phase of the load, or when the load has ended."""
    asked_for = partitions_of(*job)

    def until(condition: Callable[[], bool], pause: float = 0.001) -> None:
        deadline = time.monotonic() + LONGEST_RUN_SECONDS
        while process.poll() is None and not condition() and time.monotonic() < deadline:
            time.sleep(pause)

    if aim == "start":
        time.sleep(rng.uniform(0, 5))
        return
    until(lambda: request_count(simulator) > 0, 0.05)
    if aim == "fetching":
        time.sleep(rng.uniform(0, 5))
    elif aim == "ending":
        until(lambda: asked_for <= place.reported(job[0]), 0.02)
        time.sleep(rng.uniform(0, 0.8))
    else:
        for _ in range(rng.randrange(min(15, len(asked_for)))):
            until(lambda: is_locked(place.database))
            until(lambda: not is_locked(place.database))
        until(lambda: is_locked(place.database))
        if aim == "reporting":
            until(lambda: not is_locked(place.database))
            time.sleep(rng.uniform(0, 0.03))
        elif rng.random() < 0.6:
            # The write-ahead log is there from the first commit until the file is closed.
            log = Path(f"{place.database}.wal")
            until(lambda: log.exists() or not is_locked(place.database), 0.0002)
            time.sleep(rng.uniform(0, 0.01))
        else:
            time.sleep(rng.uniform(0, 0.08))


def resume(place: Place, wanted: set[Partition], tally: Tally) -> None:
    """Load what Dagster calls missing, to the end; at least one load, which tidies up."""
    assets = sorted({asset for asset, _ in wanted})
    missing = missing_ranges(wanted - place.reported(assets))
    if not missing:
        asset, day = min(wanted)
        missing = [((asset,), day, day)]
    for job in missing:
        done = run(materialize(*job), place.settings)
        if done.returncode:
            tally.violations["resumed loads that failed"] += 1
            print(done.stderr[-3000:], file=sys.stderr)


def check_whole(
    place: Place, reference: Path, truth: Mapping[Partition, Rows], tally: Tally
) -> None:
    """Compare a resumed backfill with the undisturbed load, row by row and column by column."""
    assets = sorted({asset for asset, _ in truth})
    verdict = judge(place.database, truth, assets)
    note(tally, verdict)
    note_lost(tally, truth.keys() - verdict.present)
    differing = verdict.present ^ place.reported(assets)
    tally.violations += Counter({"days Dagster and the table disagree about": len(differing)})
    tally.violations += Counter({"staging leftovers": len(place.leftovers())})
    same = columns_in(place.database, assets) == columns_in(reference, assets)
    tally.violations += Counter({"backfills with other columns": int(not same)})


def note(tally: Tally, verdict: Verdict) -> None:
    """Add what a verdict found wrong."""
    tally.violations += Counter(
        {
            "duplicated": len(verdict.duplicated),
            "half-written": len(verdict.half_written),
            "disagreements of the log": len(verdict.disagreeing),
        }
    )


def note_lost(tally: Tally, lost: Collection[Partition]) -> None:
    """Add partitions that should be there."""
    tally.violations += Counter({"lost": len(lost)})


def judge(database: Path, truth: Mapping[Partition, Rows], assets: Collection[str]) -> Verdict:
    """Open a database and hold each of its partitions against the truth."""
    if not database.exists():
        return Verdict()
    with duckdb.connect(str(database)) as connection:
        found = partitions_in(connection, assets)
        if not has_relation(connection, "dixa_catalogue/loads"):
            return Verdict(disagreeing=frozenset(f"{key} is not in the log" for key in found))
        logged = connection.execute(
            "SELECT asset_key, CAST(partition_date AS VARCHAR), rows FROM dixa_catalogue.loads "
            "WHERE partition_date IS NOT NULL"
        ).fetchall()
        wrong_columns = undescribed_columns(connection)
    noted = {(asset, day): rows for asset, day, rows in logged}
    wrong = {key for key in found.keys() | noted.keys() if found.get(key, Rows()) != truth.get(key)}
    doubled = {key for key in wrong if key in found and found[key] > truth.get(key, Rows())}
    disagreeing = {
        f"{key}: {found.get(key, Rows()).total()} rows, {noted.get(key)} in the log"
        for key in found.keys() | noted.keys()
        if noted.get(key) != found.get(key, Rows()).total()
    }
    if len(logged) != len(noted):
        disagreeing.add("a load is in the log twice")
    return Verdict(
        present=frozenset(noted),
        duplicated=frozenset(doubled),
        half_written=frozenset(wrong - doubled),
        disagreeing=frozenset(disagreeing) | wrong_columns,
    )


def partitions_in(
    connection: duckdb.DuckDBPyConnection, assets: Iterable[str]
) -> dict[Partition, Rows]:
    """Every row of the assets as text, by partition; what a load says of itself left out."""
    connection.execute("SET TimeZone = 'UTC'")
    found: dict[Partition, Rows] = {}
    for asset in assets:
        if not has_relation(connection, asset):
            continue
        rows = connection.execute(
            "SELECT CAST(partition_date AS VARCHAR), to_json(each) FROM "
            f"(SELECT * EXCLUDE (loaded_at, run_id) FROM {asset.replace('/', '.')}) AS each"
        )
        for day, row in rows.fetchall():
            found.setdefault((asset, day), Rows())[text_of(json.loads(row))] += 1
    return found


def has_relation(connection: duckdb.DuckDBPyConnection, asset: str) -> bool:
    """Whether a table or view of that name exists."""
    found = connection.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
        asset.split("/"),
    ).fetchone()
    return found == (1,)


def undescribed_columns(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
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
    return frozenset(f"column {name}" for (name,) in rows)


def columns_in(database: Path, assets: Iterable[str]) -> set[tuple[str, ...]]:
    """Every column of the assets with its type."""
    with duckdb.connect(str(database)) as connection:
        rows = connection.execute(
            "SELECT schema_name || '/' || table_name, column_name, data_type FROM duckdb_columns()"
        ).fetchall()
    return {row for row in rows if row[0] in assets}


def rows_of(world: World, asset: str, day: date) -> Rows:
    """A day's rows of an asset in the simulator's world, in the form of `partitions_in`."""
    window = Window.of_day(day, COPENHAGEN)
    period: dict[str, Any] = {"start": window.start, "end": window.end, "now": NOW}
    schema, name = asset.split("/")
    if schema == "dixa_records":
        rows = [flat(row.to_api()) for row in world.rows(name, **period)]
    else:
        own = {"interval_start": stamp(window.start), "interval_end": stamp(window.end)}
        rows = [
            own | {"timezone": COPENHAGEN} | aggregate
            for one in world.aggregate(name, **period)
            for aggregate in aggregates_of(one)
        ]
    return Rows(text_of({"partition_date": day.isoformat()} | row) for row in rows)


def aggregates_of(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An aggregate of the API as rows of a metric's table."""
    if not isinstance(one["value"], list):
        return [{"measure": one["measure"], "value": one["value"]}]
    return [
        {
            "measure": "AgentPresenceDuration",
            "status": part["status"]["status"],
            "value": part["value"],
        }
        for part in one["value"]
    ]


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the API as a row of a record's table."""
    primary = row["primaryTimestampField"]
    content = {
        "primary_timestamp": stamp(datetime.fromisoformat(primary["timestamp"])),
        "primary_timestamp_field": primary["name"],
    }
    fields = {item["name"]: item.get("field") for item in row["fields"]}
    for name, typed in (fields | {"value": row.get("value")}).items():
        if typed is None:
            continue
        items = typed.get("values", []) if typed["_type"] == "ListField" else [typed]
        values, labels = [value_of(item) for item in items], [item.get("label") for item in items]
        if typed["_type"] == "TimestampField":
            labels = [typed["name"]]
        is_list = typed["_type"] == "ListField"
        if not is_list or "values" in typed:
            content[name] = values if is_list else values[0]
        if any(labels):
            content[f"{name}_label"] = labels if is_list else labels[0]
    return content


def value_of(typed: Mapping[str, Any]) -> Any:
    """The content of a typed value, instants as DuckDB writes them."""
    if typed["_type"] in ("InstantField", "TimestampField"):
        return stamp(datetime.fromisoformat(typed.get("value") or typed["timestamp"]))
    return typed["value"]


def stamp(instant: datetime) -> str:
    """An instant as DuckDB writes it in UTC: no zeros at the end of a fraction."""
    text = instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "+00"


def text_of(row: Mapping[str, Any]) -> str:
    """A row as text that does not depend on the order of columns or on those that are NULL."""
    known = {name: plain(value) for name, value in row.items() if value is not None}
    return json.dumps(known, sort_keys=True)


def plain(value: Any) -> Any:
    """A value in which a whole number is the same, whatever its column's type."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def materialize(assets: Sequence[str], first: str, last: str) -> list[str]:
    """The command of a real load."""
    return [
        "dagster", "asset", "materialize", "-m", "dixa_assets.definitions",
        "--select", " or ".join(f"key:{asset}" for asset in assets),
        "--partition-range", f"{first}...{last}",
    ]  # fmt: skip


def partitions_of(assets: Iterable[str], first: str, last: str) -> set[Partition]:
    """Every day from `first` to `last` of each asset."""
    return {(asset, day.isoformat()) for asset in assets for day in days(first, last)}


def missing_ranges(missing: Collection[Partition]) -> list[tuple[tuple[str, ...], str, str]]:
    """Partitions as loads, the longest first: assets that lack the same days go together."""
    partitions_def = build_partitions_def("2025-01-01", COPENHAGEN)
    assets_by_range: dict[tuple[str, str], list[str]] = {}
    for asset in sorted({asset for asset, _ in missing}):
        lacking = sorted(day for each, day in missing if each == asset)
        for each in to_ranges(partitions_def, lacking):
            assets_by_range.setdefault(each, []).append(asset)
    loads = [(tuple(assets), *each) for each, assets in assets_by_range.items()]
    return sorted(loads, key=lambda one: -len(one[0]) * len(days(one[1], one[2])))


def is_locked(database: Path) -> bool:
    """Whether a process of this project holds the database, without touching its lock."""
    try:
        inode = str(Path(f"{database}.lock").stat().st_ino)
    except FileNotFoundError:
        return False
    return any(
        line.split()[5].endswith(f":{inode}")
        for line in Path("/proc/locks").read_text().splitlines()
        if "->" not in line
    )


def copy_of(database: Path) -> Path:
    """A copy of the database as the kill left it: the next load must recover it by itself."""
    copy = database.with_name("copy.duckdb")
    for suffix in ("", ".wal"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
        if Path(f"{database}{suffix}").exists():
            shutil.copyfile(f"{database}{suffix}", f"{copy}{suffix}")
    return copy


def request_count(simulator: Simulator) -> int:
    """How many requests the simulator has seen since it was told to forget them."""
    return int(httpx.get(f"{simulator.url}/simulator/summary", timeout=30).json()["total"])


def main() -> None:
    """Run the command; exit with 1 when anything happened that must not."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.stress.crash")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    with (
        folder_of_command("crash") as folder,
        running_simulator(
            "--rate", "0", "--latency-ms", "60", "--now", NOW.isoformat()
        ) as simulator,
    ):
        tally = crash(simulator, folder, kills=options.kills, seed=options.seed)
        print(f"{tally}; {time.monotonic() - began:.0f} s, seed {options.seed}")
        if tally.violations:
            sys.exit(1)


if __name__ == "__main__":
    main()
