"""A lake that several machines write: as safe as a file, and readers wait for nobody."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import date, timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError, WarehouseLost
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.model.values import BIGINT, JSON, VARCHAR, Value
from dixa_assets.warehouse import load_log
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import (
    DAY,
    DAYS,
    integers,
    load,
    load_metric,
    noted_rows,
    numbers_by_day,
    record,
    selected,
)
from dixa_assets_tests.support.processes import (
    LONGEST_WAIT_SECONDS,
    PROJECT,
    child,
    run,
    settings_for,
)
from dixa_assets_tests.support.services import lake, needs_lake, open_database, own_postgres
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.services

WRITERS, WRITTEN, ROUNDS, KILLS = 4, 24, 2, 8
FIELDS = (
    "SELECT DISTINCT column_name FROM duckdb_columns() WHERE schema_name = 'dixa_records' "
    "AND column_name LIKE 'field%'"
)


@pytest.fixture
def where(tmp_path: Path) -> Iterator[dict[str, str]]:
    with lake(tmp_path) as address:
        yield address


@pytest.fixture
def warehouse(where: dict[str, str]) -> Warehouse:
    return open_database(where)


def cut(where: dict[str, str]) -> int:
    """End every session of the lake's Postgres; their number."""
    dsn = where["path"].removeprefix(LAKE_SCHEME)
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert found
    return int(found[0])


def hold_lake(where: dict[str, str], pipe: Connection) -> None:
    """Hold the lake's lock until a message arrives."""
    with open_database(where)._engine.connect():
        pipe.send("held")
        pipe.recv()


# Readers and writers


def test_reads_before_the_first_load_create_no_lake(warehouse: Warehouse) -> None:
    for _ in range(2):
        assert not warehouse.inventory().loads
        assert not warehouse.catalogue().entries
    assert warehouse.changed_at() is None


def test_readers_wait_for_no_writer_and_writers_wait_for_each_other(where: dict[str, str]) -> None:
    warehouse = open_database(where, wait_seconds=0.5)
    load(warehouse, record(), DAY, integers(1))

    with child(hold_lake, where) as (process, pipe):
        assert pipe.recv() == "held"
        assert numbers_by_day(warehouse) == {DAY: [1]}
        with pytest.raises(WarehouseBusy, match=f"dixa_assets .* {process.pid} held the lake"):
            load(warehouse, record(), DAY, integers(2))
        pipe.send("let go")
        process.join()

    load(warehouse, record(), DAY, integers(3))
    assert numbers_by_day(warehouse) == {DAY: [3]}


def test_a_killed_writer_keeps_nobody_waiting(where: dict[str, str]) -> None:
    warehouse = open_database(where, wait_seconds=10)
    warehouse.check()

    with child(hold_lake, where) as (process, pipe):
        assert pipe.recv() == "held"
        process.kill()
        load(warehouse, record(), DAY, integers(1))

    assert numbers_by_day(warehouse) == {DAY: [1]}


def write_without_lock(where: dict[str, str], number: int, pipe: Connection) -> None:
    warehouse = open_database(where)
    warehouse._engine._writing = nullcontext  # type: ignore[attr-defined]
    while day := pipe.recv():
        try:
            load(warehouse, record(), day, integers(*[number] * 20))
            pipe.send("written")
        except WarehouseError as error:
            pipe.send(f"refused: {error}")


@pytest.mark.slow
def test_two_writers_without_a_lock_both_write_and_double_no_day(
    warehouse: Warehouse, where: Any
) -> None:
    load(warehouse, record(), "2024-12-31", integers(0))

    with (
        child(write_without_lock, where, 1) as (_, one),
        child(write_without_lock, where, 2) as (_, other),
    ):
        for day in DAYS:
            for pipe in (one, other):
                pipe.send(day)
            # The loser of a conflict writes again.
            assert {one.recv(), other.recv()} == {"written"}

    days = numbers_by_day(warehouse)
    assert sorted(days) == ["2024-12-31", *DAYS]
    assert all(days[day] in ([1] * 20, [2] * 20) for day in DAYS)


def test_a_conflict_that_comes_again_and_again_ends_with_a_clear_error(
    warehouse: Warehouse, where: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(warehouse, record(), DAY, integers(1))
    rival = open_database(where)
    rival._engine._writing = nullcontext  # type: ignore[attr-defined]
    write_loads, attempts = load_log.write_loads, []

    def interfere(*given: Any) -> None:
        with monkeypatch.context() as undisturbed:
            undisturbed.setattr(load_log, "write_loads", write_loads)
            attempts.append(len(attempts))
            load(rival, record(), DAY, integers(*attempts))
        write_loads(*given)

    monkeypatch.setattr(load_log, "write_loads", interfere)
    with pytest.raises(WarehouseLost, match=r"Other loads wrote at the same moment. Run fewer\."):
        load(warehouse, record(), DAY, integers(99))

    assert 1 < len(attempts) < 10
    assert numbers_by_day(warehouse) == {DAY: attempts}


# A lost server


def test_a_cut_connection_is_opened_again(warehouse: Warehouse, where: dict[str, str]) -> None:
    load(warehouse, record(), DAY, integers(1))

    assert cut(where) > 0
    assert numbers_by_day(warehouse) == {DAY: [1]}

    assert cut(where) > 0
    load(warehouse, record(), DAY, integers(2))
    assert numbers_by_day(warehouse) == {DAY: [2]}


def test_a_write_that_is_cut_leaves_the_day_whole_and_can_be_repeated(
    warehouse: Warehouse, where: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(warehouse, record(), DAY, integers(1, 2))
    write_loads = load_log.write_loads
    monkeypatch.setattr(load_log, "write_loads", lambda *given: (cut(where), write_loads(*given)))

    with pytest.raises(WarehouseLost, match=r"dixa_records/conversations in ducklake.*2025-01-02"):
        load(warehouse, record(), DAY, integers(3))
    assert numbers_by_day(warehouse) == {DAY: [1, 2]}

    monkeypatch.setattr(load_log, "write_loads", write_loads)
    load(warehouse, record(), DAY, integers(3))
    assert numbers_by_day(warehouse) == {DAY: [3]}


def test_a_missing_server_is_named(tmp_path: Path) -> None:
    nowhere = Warehouse(
        f"{LAKE_SCHEME}dbname=dixa host=127.0.0.1 port=1",
        WarehouseSettings(lake_data=str(tmp_path / "lake")),
    )
    with pytest.raises(WarehouseLost, match="port 1 failed"):
        nowhere.check()


def write_through_a_cut(where: dict[str, str], seconds: float) -> None:
    """Write for some seconds, and more often than there are days, however slow the machine is.

    Print the number of writes, and the seconds of the slowest.
    """
    warehouse = open_database(where, wait_seconds=60)
    warehouse.check()
    print("begun", flush=True)
    end, written, slowest = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < end or written <= len(DAYS):
        began = time.monotonic()
        # A write that is cut off may fail; the next attempt writes the same day.
        with suppress(WarehouseLost):
            load(warehouse, record(), DAYS[written % 20], integers(*[written] * 20))
            written += 1
        slowest = max(slowest, time.monotonic() - began)
    print(written, slowest, flush=True)


@pytest.fixture
def other_host() -> Iterator[tuple[str, list[str], Callable[[str], None]]]:
    """Another host: the address of this host there, a command prefix, a switch for the link."""
    name, here = f"dixa{os.getpid()}", "10.77.119.1"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no second host: network namespaces take root and iproute2")
    inside = ["ip", "netns", "exec", name]
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("addr", "add", f"{here}/24", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        for command in (f"addr add 10.77.119.2/24 dev {name}b", f"link set {name}b up"):
            subprocess.run([*inside, "ip", *command.split()], check=True)
        yield here, inside, lambda state: ip("link", "set", f"{name}a", state)
    finally:
        ip("netns", "del", name)


@pytest.mark.slow
def test_a_host_continues_after_its_link_was_cut_for_half_a_minute(
    tmp_path: Path, other_host: tuple[str, list[str], Callable[[str], None]]
) -> None:
    needs_lake()
    here, inside, link = other_host
    with own_postgres(here) as server:
        at = f"port={server.port} user=postgres"
        with psycopg.connect(f"dbname=postgres host=127.0.0.1 {at}", autocommit=True) as connection:
            connection.execute("CREATE DATABASE lake")
        where = {"lake_data": str(tmp_path / "lake")}
        there = where | {"path": f"{LAKE_SCHEME}dbname=lake host={here} {at}"}
        program = f"from {__name__} import *; write_through_a_cut({there!r}, 60)"
        with subprocess.Popen(
            [*inside, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT
        ) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == "begun\n"
            time.sleep(5)
            link("down")
            time.sleep(30)
            link("up")
            written, slowest = map(float, writer.stdout.readline().split())
        assert written > 20
        assert slowest > 5
        warehouse = open_database(where | {"path": f"{LAKE_SCHEME}dbname=lake host=127.0.0.1 {at}"})
        found = numbers_by_day(warehouse)
        assert sorted(found) == DAYS
        assert all(len(numbers) == 20 and len(set(numbers)) == 1 for numbers in found.values())
        assert max(map(max, found.values())) == written - 1


# Types, comments, order


def test_a_list_of_a_later_day_is_widened_twice(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAYS[0], integers(1))
    values = [Value("BIGINT[]", [1, 2]), Value("VARCHAR[]", ["x"]), Value(JSON, {"a": 1})]
    for day, value in zip(DAYS[1:], values, strict=False):
        load(warehouse, record(), day, [{"field": value}])

    found = warehouse.query("SELECT field FROM dixa_records.conversations ORDER BY partition_date")
    assert [json.loads(each) for each in found.field[1:]] == [["1", "2"], ["x"], {"a": 1}]


def test_small_files_are_merged_without_losing_a_row(
    warehouse: Warehouse, where: dict[str, str]
) -> None:
    for number, day in enumerate(DAYS):
        load(warehouse, record(), day, integers(number, number))
        load(warehouse, record(), day, integers(number))
    before = numbers_by_day(warehouse)
    files = [*Path(where["lake_data"]).rglob("*.parquet")]

    found = warehouse.maintain(timedelta(0))

    assert found["files"] < found["files_before"] / 4
    assert found["snapshots"] < found["snapshots_before"] / 4
    assert len([*Path(where["lake_data"]).rglob("*.parquet")]) < len(files) / 4
    assert numbers_by_day(warehouse) == before
    load(warehouse, record(), DAY, integers(99))
    assert numbers_by_day(warehouse) == before | {DAY: [99]}


# Copies


def test_the_read_copy_of_a_lake_is_a_file(warehouse: Warehouse, tmp_path: Path) -> None:
    load(warehouse, record(), DAY, integers(1, 2))
    load_metric(warehouse, "csat", DAY, [80.0])

    made = warehouse.publish(tmp_path / "copy" / "dixa.duckdb")

    assert made.keys() == {"bytes"}

    with duckdb.connect(str(tmp_path / "copy" / "dixa.duckdb"), read_only=True) as connection:
        records = connection.execute("SELECT number FROM dixa_records.conversations").fetchall()
        assert sorted(records) == [(1,), (2,)]
        assert connection.execute("SELECT value FROM dixa_metrics.csat").fetchall() == [(80.0,)]
        assert connection.execute("SELECT count(*) FROM dixa.metrics_daily").fetchall() == [(1,)]


def test_a_file_is_copied_into_the_lake_and_loads_go_on_there(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    file = Warehouse(tmp_path / "dixa.duckdb")
    load(file, record(about="Every conversation."), DAYS[0], integers(1, 2))
    load(file, record(about="Every conversation."), DAYS[1], [{"number": Value(VARCHAR, "x")}])
    load_metric(file, "csat", DAY, [80.0, 81.0])

    moved = warehouse.copy_from(file.path)

    assert moved['"dixa_records"."conversations"'] == 3
    everything = (
        "SELECT partition_date::VARCHAR, number, run_id FROM dixa_records.conversations ORDER BY 2"
    )
    assert selected(warehouse, everything) == selected(file, everything)
    assert noted_rows(warehouse) == noted_rows(file)
    assert selected(warehouse, "SELECT value FROM dixa_metrics.csat ORDER BY 1") == [(80,), (81,)]
    comments = (
        "SELECT column_name, coalesce(comment, '') FROM duckdb_columns() "
        "WHERE schema_name = 'dixa_records' ORDER BY 1"
    )
    assert selected(warehouse, comments) == selected(file, comments)
    load(warehouse, record(), DAYS[2], [{"number": Value(VARCHAR, "y")}])
    assert len(selected(warehouse, everything)) == 4

    with pytest.raises(WarehouseError, match="holds days already"):
        warehouse.copy_from(file.path)


def test_one_command_copies_a_file(
    where: dict[str, str], tmp_path: Path, simulator: Simulator
) -> None:
    file = Warehouse(tmp_path / "dixa.duckdb")
    load_metric(file, "csat", DAY, [80.0, 81.0])
    settings = settings_for(
        simulator, tmp_path, DIXA_DUCKDB_PATH=where["path"], DIXA_LAKE_DATA=where["lake_data"]
    )

    done = run(["dixa_assets", "move", str(file.path)], settings)

    assert done.returncode == 0, done.stderr
    assert '"dixa_metrics"."metric_values": 2 rows, the same at both ends' in done.stdout
    assert selected(open_database(where), "SELECT count(*) FROM dixa_metrics.csat") == [(2,)]
    assert selected(open_database(where), "SELECT count(*) FROM dixa_marts.days") == [(1,)]
    done = run(["dixa_assets", "move", str(file.path)], settings)
    assert done.returncode == 1
    assert "holds days already" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_of_another_zone_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    file = Warehouse(tmp_path / "apia.duckdb", WarehouseSettings(timezone="Pacific/Apia"))
    file.check()

    with pytest.raises(ConfigError, match="holds days of Pacific/Apia"):
        warehouse.copy_from(file.path)

    with pytest.raises(ConfigError, match="cannot be read as a database"):
        warehouse.copy_from(tmp_path / "nothing.duckdb")


# Four machines at once


def write_when_told(where: dict[str, str], number: int, pipe: Connection) -> None:
    warehouse = open_database(where, wait_seconds=120)
    while task := pipe.recv():
        turn, day, is_changed = task
        fields = {"number": Value(BIGINT, 1000 * turn + number)}
        if is_changed:
            # A new column, or a wider one.
            fields[f"field_{is_changed // 2}"] = Value(
                *((BIGINT, 1), (VARCHAR, "x"))[is_changed % 2]
            )
        load(warehouse, record(), day, [fields] * 5)
        pipe.send(task)


class Machines:
    """Four processes that write their tasks in order; a killed one is started again."""

    def __init__(self, where: dict[str, str], tasks: list[list[Any]]) -> None:
        self._where, self._tasks = where, tasks
        self.running: dict[Connection, Any] = {}
        for number in range(len(tasks)):
            self._start(number)

    def _start(self, number: int) -> None:
        manager = child(write_when_told, self._where, number)
        _, pipe = manager.__enter__()
        pipe.send(self._tasks[number][0])
        self.running[pipe] = manager, number

    def written(self) -> int:
        """The number of tasks written since the last call; their processes get the next task."""
        done = wait([*self.running], timeout=60)
        for pipe in done:
            manager, number = self.running[pipe]
            assert pipe.recv() == self._tasks[number].pop(0)
            if self._tasks[number]:
                pipe.send(self._tasks[number][0])
            else:
                manager.__exit__(None, None, None)
                del self.running[pipe]
        return len(done)

    def kill(self, pipe: Connection) -> None:
        """Kill a process. Its task may be done or not; the next process does it again."""
        manager, number = self.running.pop(pipe)
        manager.__exit__(None, None, None)
        self._start(number)


@pytest.mark.slow
def test_four_killed_machines_lose_and_double_nothing(
    warehouse: Warehouse, where: dict[str, str]
) -> None:
    chance = random.Random(7)
    days = [str(date(2025, 1, 1) + timedelta(days=number)) for number in range(WRITTEN)]
    changes = iter(range(1, 100))
    warehouse.check()
    kills = 0
    for turn in range(1, ROUNDS + 1):
        tasks = [[(turn, day, 0) for day in days] for _ in range(WRITERS)]
        for mine in tasks:
            mine[chance.randrange(WRITTEN)] = (turn, days[-1], next(changes))
        to_kill = sorted(chance.randrange(WRITERS * WRITTEN) for _ in range(KILLS // ROUNDS + 1))
        machines, done = Machines(where, tasks), 0
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while machines.running:
            assert time.monotonic() < deadline
            done += machines.written()
            while to_kill and done >= to_kill[0] and machines.running:
                del to_kill[0]
                time.sleep(chance.uniform(0, 0.2))
                machines.kill(chance.choice([*machines.running]))
                kills += 1
            if chance.random() < 0.02:
                warehouse.maintain(timedelta(0))
        warehouse.maintain(timedelta(0))
    assert kills >= KILLS
    found = numbers_by_day(warehouse)
    assert sorted(found) == days
    for numbers in found.values():
        assert len(numbers) == 5
        assert len(set(numbers)) == 1
        assert numbers[0] // 1000 == ROUNDS
    assert {rows for rows, _ in noted_rows(warehouse).values()} == {5}
    columns = {column for (column,) in selected(warehouse, FIELDS)}
    assert len(columns) >= WRITERS * ROUNDS / 2
