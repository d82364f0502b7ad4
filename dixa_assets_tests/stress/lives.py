"""Lives of a database: loads, kills, backups, other programs, other accounts, in random order.

Run as `python -m dixa_assets_tests.stress lives --lives 300 --seed 1`. A life is a list of
operations; after some of them, and at its end, the history sensor ticks. Then every day that
Dagster shows as loaded has its rows in the table, or the sensor requests it or names it. No
operation changes what another program made, and every error is one of this project.
"""

import io
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import duckdb

from dixa_assets import doctor
from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import DixaAssetsError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    NOT_FINISHED_STATUSES,
)
from dixa_assets.simulator.world import World
from dixa_assets_tests.stress.fuzz import Violation
from dixa_assets_tests.support.processes import child, hold
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import NOW, Simulator, running_simulator
from dixa_assets_tests.support.ticks import first_seen
from dixa_assets_tests.support.truth import Partition, Rows, rows_of

CSAT, RATINGS, CHANNEL = "dixa_metrics/csat", "dixa_records/ratings", "dixa_filters/channel"
KEYS = [(CSAT,), (RATINGS,), (CSAT, RATINGS)]
# The last four are the automatic history.
DAYS = [f"2025-11-0{number}" for number in range(4, 10)]
HISTORY_DAYS = 4
NAMES = ("test.duckdb", "dixa.duckdb")
# A field that the vendor sends with changing types.
EXTRA = [
    {"_type": "LongField", "value": 1},
    {"_type": "StringField", "value": "one"},
    {"_type": "InstantField", "value": "2025-11-01T00:00:00Z"},
]
# Statements of another program, and the tables and views that they make.
PROGRAMS: list[tuple[str, list[str]]] = [
    ("CREATE SCHEMA shop; CREATE TABLE shop.a(id INTEGER PRIMARY KEY)", ["shop.a"]),
    (
        "CREATE TABLE shop.b(a INTEGER REFERENCES shop.a(id)); INSERT INTO shop.a VALUES (1); "
        "INSERT INTO shop.b VALUES (1)",
        ["shop.a", "shop.b"],
    ),
    ("CREATE VIEW main.mine AS FROM dixa_records.ratings", ["main.mine"]),
    ("CREATE INDEX mine ON dixa_records.ratings(conversation_id)", []),
    ("CREATE UNIQUE INDEX once ON dixa_records.ratings(partition_date)", []),
    ("DROP INDEX dixa_records.mine", []),
    ("DROP INDEX dixa_records.once", []),
    ("DROP TABLE dixa_records.ratings", []),
    ("ALTER TABLE dixa_records.ratings RENAME TO my_ratings", ["dixa_records.my_ratings"]),
    ("ALTER TABLE dixa_records.ratings DROP COLUMN extra", []),
    ("ALTER TABLE dixa_records.ratings ADD COLUMN note VARCHAR", []),
    ("DROP TABLE dixa_metrics.metric_values", []),
    ("DROP TABLE dixa_catalogue.loads", []),
    (
        "DROP VIEW dixa_metrics.csat; CREATE VIEW dixa_metrics.csat AS SELECT 1 AS value",
        ["dixa_metrics.csat"],
    ),
    (
        "CREATE SCHEMA dixa_records; CREATE TABLE dixa_records.ratings AS SELECT 1 AS id",
        ["dixa_records.ratings"],
    ),
    (
        "CREATE SCHEMA IF NOT EXISTS {file}.dixa; CREATE TABLE {file}.dixa.orders AS SELECT 1 AS x",
        ["{file}.dixa.orders"],
    ),
    ("DROP TABLE {file}.dixa.orders; DROP SCHEMA {file}.dixa", []),
    ("DROP TABLE dixa_filters.channel", []),
]

# How often each operation occurs, and its arguments.
OPERATIONS: dict[str, tuple[int, Callable[[Random], list[Any]]]] = {
    "load": (6, lambda rng: [rng.randrange(3), rng.randrange(len(DAYS)), rng.randint(1, 3)]),
    "restore": (4, lambda rng: [rng.choice(["copy", "copy2", "move"]), rng.randrange(9)]),
    "program": (5, lambda rng: [rng.randrange(len(PROGRAMS))]),
    "backup": (3, lambda _: []),
    "delete": (1, lambda rng: [rng.random() < 0.5]),
    "rename": (1, lambda _: []),
    "vendor": (1, lambda rng: [rng.randrange(len(EXTRA))]),
    "account": (1, lambda _: []),
    "publish": (2, lambda rng: [rng.choice(["read", "read", "backup", "text"])]),
    "run_requests": (2, lambda _: []),
    "doctor": (1, lambda _: []),
    "restart": (1, lambda _: []),
    "filters": (1, lambda _: []),
    "reader": (1, lambda _: []),
}
# A killed process takes more time than everything else.
KILLS = ("kill_load", "kill_publish")
KILL_SHARE, LONGEST_WAIT = 0.2, 400
# An operation with its arguments, and whether the sensor ticks afterwards.
Step = tuple[str, list[Any], bool]


def random_life(rng: Random) -> list[Step]:
    names = rng.choices(
        [*OPERATIONS], [weight for weight, _ in OPERATIONS.values()], k=rng.randint(5, 11)
    )
    steps = [(name, OPERATIONS[name][1](rng), rng.random() < 0.6) for name in names]
    if rng.random() < KILL_SHARE:
        kill: Step = (rng.choice(KILLS), [rng.randrange(LONGEST_WAIT)], True)
        steps.insert(rng.randrange(len(steps)), kill)
    return steps


@dataclass
class Life:
    """A database in a folder, and the Dagster that loads it."""

    simulator: Simulator
    folder: Path
    catalogue: Catalogue
    instance: dg.DagsterInstance
    truth: Callable[[str, str], Rows]
    name: str = NAMES[0]
    cursor: str | None = None
    backups: list[Path] = field(default_factory=list)
    # The tables and views of other programs, with their definitions.
    theirs: dict[str, str] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def database(self) -> Path:
        return self.folder / self.name

    def __post_init__(self) -> None:
        (self.folder / "notes.txt").write_text("My notes.\n" * 1000)
        self.restart()

    def component(self, **attributes: Any) -> DixaAnalytics:
        return component(
            self.simulator,
            self.folder,
            duckdb_path=str(self.database),
            include=["csat", "ratings"],
            history_days=HISTORY_DAYS,
            report=False,
            **{"database_wait_seconds": 5.0} | attributes,
        )

    # Operations

    def restart(self) -> None:
        """The code server starts again: nothing in memory is kept."""
        self.analytics = self.component()
        definitions = self.analytics.build_definitions(self.catalogue)
        self.repository = definitions.get_repository_def()
        (self.sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_history")
        self.warehouse = self.analytics.build_warehouse()

    def load(self, which: int, first: int, length: int, **attributes: Any) -> None:
        self._materialize(KEYS[which], DAYS[first], DAYS[min(first + length, len(DAYS)) - 1])

    def filters(self) -> None:
        self._materialize([CHANNEL])

    def run_requests(self) -> None:
        """Run what the sensor requested: days of the two assets."""
        for request in self.requests:
            keys = {key.to_user_string() for key in request.asset_selection} & {CSAT, RATINGS}
            if keys and request.tags:
                first = request.tags[ASSET_PARTITION_RANGE_START_TAG]
                self._materialize(sorted(keys), first, request.tags[ASSET_PARTITION_RANGE_END_TAG])

    def account(self) -> None:
        """Another account loads into the same file."""
        other = self.component(account="acme")
        self._materialize(["acme/" + CSAT], DAYS[0], DAYS[0], analytics=other)

    def reader(self) -> None:
        """Another process has the file open during a load."""
        if self.database.exists() and not Path(f"{self.database}.wal").exists():
            with child(hold, str(self.database)) as (_, pipe):
                assert pipe.recv() == "held"
                impatient = self.component(database_wait_seconds=0.1)
                self._materialize(KEYS[0], DAYS[0], DAYS[0], analytics=impatient)

    def backup(self) -> None:
        if self.database.exists():
            place = self.folder / f"backup_{len(self.backups)}.duckdb"
            self.backups.append(Path(shutil.copy(self.database, place)))

    def restore(self, how: str, number: int) -> None:
        """Put a backup in the place of the database, as people do: without the log."""
        if self.backups:
            backup = self.backups[number % len(self.backups)]
            if how == "move":
                self.backups.remove(backup)
                os.replace(backup, self.database)
            else:
                (shutil.copy if how == "copy" else shutil.copy2)(backup, self.database)

    def delete(self, with_log: bool) -> None:
        self.database.unlink(missing_ok=True)
        if with_log:
            Path(f"{self.database}.wal").unlink(missing_ok=True)

    def rename(self) -> None:
        """Give the file another name, and set it."""
        old = self.database
        self.name = NAMES[self.name == NAMES[0]]
        for suffix in ("", ".wal"):
            if Path(f"{old}{suffix}").exists():
                os.replace(f"{old}{suffix}", f"{self.database}{suffix}")
        self.restart()

    def program(self, number: int) -> None:
        """Another program changes the file; what it cannot do, it leaves."""
        statements, made = PROGRAMS[number]
        file = Path(self.name).stem
        with suppress(duckdb.Error), duckdb.connect(str(self.database)) as connection:
            connection.execute(f"BEGIN; {statements.format(file=file)}; COMMIT")
            names = {name.replace("{file}.", "") for name in made}
            self.theirs |= {name: sql for name, sql, _ in relations(connection) if name in names}

    def vendor(self, number: int) -> None:
        """The vendor sends a field of another type from now on."""
        self.simulator.tell("records/fields", id="ratings", field="extra", data=EXTRA[number])

    def publish(self, where: str) -> None:
        places = {"read": self.folder / "read.duckdb", "text": self.folder / "notes.txt"}
        if where == "backup" and not self.backups:
            return
        self.warehouse.publish(places.get(where) or self.backups[-1])
        if where != "read":
            raise Violation(f"the {where} was replaced by a read copy")
        left = [path.name for path in self.folder.glob(".read.duckdb*")]
        if left:
            raise Violation(f"a publish leaves {left}")

    def doctor(self) -> None:
        before = self._bytes()
        try:
            with redirect_stdout(io.StringIO()):
                doctor.check_database(self.analytics, self.warehouse)
        finally:
            if not Path(f"{self.database}.wal").exists() and self._bytes() != before:
                raise Violation("the doctor changed the database")

    def kill_load(self, milliseconds: int) -> None:
        settings = (self.simulator.url, str(self.folder), self.name, self.catalogue.to_json())
        self._kill(load_in_child, milliseconds, *settings, str(self.instance.root_directory))
        # As Dagster's run monitoring does.
        for run in self.instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
            self.instance.report_run_failed(run)

    def kill_publish(self, milliseconds: int) -> None:
        self._kill(publish_in_child, milliseconds, str(self.database), str(self.folder))

    # The rule

    def check(self, is_restored: bool) -> None:
        """Raise `Violation` if a day is lost that nobody was told about.

        Args:
            is_restored: Whether a backup has just been restored. Then the database may also have
                an older load of a day.
        """
        shown = {
            (key, day)
            for key in (CSAT, RATINGS)
            for day in self.instance.get_materialized_partitions(dg.AssetKey(key.split("/")))
        }
        before = self._bytes()
        first, second = self._tick(), self._tick()
        if not Path(f"{self.database}.wal").exists() and self._bytes() != before:
            raise Violation("the sensor changed the database")
        if first.run_requests:
            self.requests = list(first.run_requests)
        said = str(second.skip_reason and second.skip_reason.skip_message)
        if said.startswith("Missing days cannot be determined now: "):
            return
        found = self._rows()
        older = self._older_loads() if is_restored else set()
        for key, day in sorted(shown):
            is_there = found.get((key, day), Rows()) == self.truth(key, day)
            is_lost = not is_there or (key, day) in older
            if is_lost and not (self._is_awaited(key, day) or is_named(said, key, day)):
                raise Violation(
                    f"{key} of {day} is shown as loaded, and is not in the table; "
                    f"the sensor says: {said}"
                )

    def snapshot(self) -> dict[str, Any]:
        """The objects of other programs, and the files that are not of this project."""
        made: dict[str, Any] = {
            path.name: path.read_bytes()
            for path in (self.folder / "notes.txt", *self.backups)
            if path.exists()
        }
        if self.database.exists():
            with suppress(duckdb.IOException), self._reading() as connection:
                for name, sql, rows in relations(connection):
                    if self.theirs.get(name) == sql:
                        made[name] = sql, rows
        return made

    def _is_awaited(self, key: str, day: str) -> bool:
        """Whether the sensor has requested the days of an asset, and repeats that."""
        tries = json.loads(self.cursor or "{}")["tries"]
        return day in DAYS[-HISTORY_DAYS:] and bool(tries.get(f"{key} {HISTORY_DAYS}"))

    def _tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.repository
        )
        tick = self.sensor(context)
        assert isinstance(tick, dg.SensorResult)
        self.cursor = tick.cursor
        return tick

    def _rows(self) -> dict[Partition, Rows]:
        """The rows in the database, without the columns that others added."""
        found: dict[Partition, Rows] = {}
        if not self.database.exists():
            return found
        with self._reading() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for key in (CSAT, RATINGS):
                table, where = key.replace("/", "."), "true"
                if key == CSAT:
                    table, where = "dixa_metrics.metric_values", "metric = 'csat'"
                with suppress(duckdb.CatalogException, duckdb.BinderException):
                    rows = connection.execute(
                        f"SELECT CAST(partition_date AS VARCHAR), count(*) FROM {table} "
                        f"WHERE {where} GROUP BY ALL"
                    ).fetchall()
                    found |= {(key, day): Rows({"rows": count}) for day, count in rows}
        return found

    def _older_loads(self) -> set[Partition]:
        """The days whose latest load in Dagster is later than the one in the database."""
        older: set[Partition] = set()
        if not self.database.exists():
            return older
        with self._reading() as connection, suppress(duckdb.CatalogException):
            noted = connection.execute(
                "SELECT asset_key, CAST(partition_date AS VARCHAR), run_id, epoch(loaded_at) "
                "FROM dixa_catalogue.loads"
            ).fetchall()
            for key, day, run_id, at in noted:
                if key in (CSAT, RATINGS):
                    records = dg.AssetRecordsFilter(
                        asset_key=dg.AssetKey(key.split("/")), asset_partitions=[day]
                    )
                    for record in self.instance.fetch_materializations(records, limit=1).records:
                        if record.event_log_entry.run_id != run_id and at < record.timestamp:
                            older.add((key, day))
        return older

    def _reading(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.database), read_only=True)

    def _bytes(self) -> bytes | None:
        return self.database.read_bytes() if self.database.exists() else None

    def _materialize(
        self,
        keys: Any,
        first: str = "",
        last: str = "",
        analytics: DixaAnalytics | None = None,
    ) -> None:
        done = load(
            analytics or self.analytics,
            keys,
            first,
            last,
            instance=self.instance,
            catalogue=self.catalogue,
        )
        for event in done.get_step_failure_events():
            data = event.step_failure_data
            # The checks run after the load, and may query a table that a person dropped.
            if data.user_failure_data is None and "check_results" not in str(data.error):
                raise Violation(f"another error: {data.error}")
            self.ends["refused loads"] += 1

    def _kill(self, target: Callable[..., None], milliseconds: int, *arguments: str) -> None:
        with child(target, *arguments) as (process, pipe):
            pipe.recv()
            time.sleep(milliseconds / 1000)
            process.kill()
            process.join()


def load_in_child(
    url: str, folder: str, name: str, catalogue: str, home: str, pipe: Connection
) -> None:
    logging.disable()
    analytics = component(
        Simulator(url),
        Path(folder),
        duckdb_path=str(Path(folder) / name),
        include=["csat", "ratings"],
    )
    with dg.DagsterInstance.from_config(home) as instance, redirect_stderr(io.StringIO()):
        known = Catalogue.from_json(catalogue)
        pipe.send("ready")
        load(analytics, KEYS[2], DAYS[0], DAYS[-1], instance=instance, catalogue=known)


def publish_in_child(database: str, folder: str, pipe: Connection) -> None:
    analytics = DixaAnalytics(duckdb_path=database, base_url="http://127.0.0.1")
    pipe.send("ready")
    for _ in range(20):
        analytics.build_warehouse().publish(Path(folder) / "read.duckdb")


def is_named(said: str, key: str, day: str) -> bool:
    _, found, about = said.partition(f"{key} (")
    words = about.partition(")")[0].split()
    # "3 days from 2025-11-04 to 2025-11-06"
    return bool(found) and words[3] <= day <= words[5]


def relations(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, int]]:
    """The name, the definition and the number of rows of each table and view."""
    ((database,),) = connection.execute("SELECT current_database()").fetchall()
    for kind in ("table", "view"):
        found = connection.execute(
            f"SELECT schema_name, {kind}_name, sql FROM duckdb_{kind}s() WHERE NOT internal"
        ).fetchall()
        for schema, name, sql in found:
            rows = 0
            if kind == "table":
                place = f'"{database}"."{schema}"."{name}"'
                ((rows,),) = connection.execute(f"SELECT count(*) FROM {place}").fetchall()
            yield f"{schema}.{name}", sql, rows


class Lives:
    """A simulator, a loaded database and its Dagster home, for many lives."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self._simulator, self._folder = simulator, folder
        simulator.tell("reset", now=NOW.isoformat())
        known = fetched(component(simulator, folder, include=["csat", "ratings"]))
        self._catalogue = first_seen(known)
        self._young = folder / "young"
        (self._young / "home").mkdir(parents=True)
        # One file for the events of all runs.
        storage = {
            "module": "dagster._core.storage.event_log",
            "class": "ConsolidatedSqliteEventLogStorage",
            "config": {"base_dir": "HOME/history"},
        }
        settings = {"event_log_storage": storage, "telemetry": {"enabled": False}}
        (self._young / "home" / "dagster.yaml").write_text(json.dumps(settings))
        world = World()
        self._truth = cache(lambda key, day: Rows({"rows": rows_of(world, key, day).total()}))
        self._cursor: str | None = None
        self.ends: Counter[str] = Counter()
        with self._life() as life:
            life.load(2, 0, len(DAYS))
            life.filters()
            life.check(is_restored=False)
            self._cursor = life.cursor
        shutil.copytree(life.folder, self._young, dirs_exist_ok=True)
        (self._young / "home" / "dagster.yaml").write_text(json.dumps(settings))

    @contextmanager
    def _life(self) -> Iterator[Life]:
        """A copy of the young database."""
        folder = self._folder / "life"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._young, folder)
        home = folder / "home"
        settings = (home / "dagster.yaml").read_text()
        (home / "dagster.yaml").write_text(settings.replace("HOME", str(home)))
        with (
            redirect_stderr(io.StringIO()),
            dg.DagsterInstance.from_config(str(home)) as instance,
        ):
            yield Life(
                self._simulator, folder, self._catalogue, instance, self._truth, cursor=self._cursor
            )

    def check(self, steps: Sequence[Step]) -> None:
        """Live a life. Raises `Violation`."""
        self._simulator.tell("reset", now=NOW.isoformat())
        with self._life() as life:
            for number, (name, arguments, has_tick) in enumerate(steps, 1):
                self._live(life, name, arguments)
                if has_tick or number == len(steps):
                    life.check(is_restored=name == "restore")
        self.ends += life.ends

    def reduced(self, steps: list[Step]) -> tuple[list[Step], Violation]:
        """A life that breaks the rule, without the steps that it does not need for that."""
        number, found = len(steps), Violation("only now and then")
        while number:
            number -= 1
            fewer = [*steps[:number], *steps[number + 1 :]]
            try:
                self.check(fewer)
            except Violation as violation:
                steps, found = fewer, violation
        return steps, found

    def _live(self, life: Life, name: str, arguments: list[Any]) -> None:
        before = life.snapshot()
        self.ends[name] += 1
        try:
            getattr(life, name)(*arguments)
        except DixaAssetsError:
            self.ends["refusals"] += 1
        except (Violation, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise Violation(f"another error: {type(error).__name__}: {error}") from error
        is_own = name not in ("restore", "delete", "program", "rename", "backup")
        after = life.snapshot()
        if is_own and before != after:
            names = before.keys() | after.keys()
            changed = sorted(each for each in names if before.get(each) != after.get(each))
            raise Violation(f"{name} changed what is not ours: {changed}")


@contextmanager
def living(simulator: Simulator | None = None) -> Iterator[Lives]:
    """Everything that lives need; gone afterwards."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    logging.getLogger("dixa_assets").setLevel(logging.CRITICAL)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        if simulator:
            yield Lives(simulator, Path(folder))
            return
        with running_simulator("--rate", "0", "--now", NOW.isoformat()) as own:
            yield Lives(own, Path(folder))


def run(number: int, seed: int, simulator: Simulator | None = None) -> Counter[str]:
    """The number of operations by name; raises `Violation` with a bad life, reduced."""
    with living(simulator) as all_lives:
        for life in range(number):
            steps = random_life(Random(f"{seed} {life}"))
            try:
                all_lives.check(steps)
            except Violation as violation:
                fewer, found = all_lives.reduced(steps)
                raise Violation(f"{violation}\n{found}\ncase: {json.dumps(fewer)}") from None
        return all_lives.ends
