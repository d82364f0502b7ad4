"""A partition is replaced whole or stays as it was, whoever else writes, waits, fails or dies."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest

from dixa_assets.errors import ConfigError, DixaAssetsError, WarehouseBusy, WarehouseError
from dixa_assets.schema import METRIC_COLUMNS, filter_table
from dixa_assets.staging import Staged
from dixa_assets.tables import quote
from dixa_assets.values import BIGINT, DOUBLE, VARCHAR, Value
from dixa_assets.warehouse import Load, Warehouse
from dixa_assets_tests.support.handmade import (
    DAYS,
    load,
    load_metric,
    of_day,
    record,
    selected,
    stage,
)
from dixa_assets_tests.support.processes import PROJECT, child, hold
from dixa_assets_tests.support.simulator import COPENHAGEN

DAY = "2025-01-02"


def integers(*numbers: int) -> list[dict[str, Value]]:
    return [{"number": Value(BIGINT, number)} for number in numbers]


def numbers_by_day(warehouse: Warehouse) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for day, number in selected(
        warehouse,
        "SELECT partition_date::VARCHAR, number FROM dixa_records.conversations ORDER BY ALL",
    ):
        found.setdefault(day, []).append(number)
    return found


def noted_rows(warehouse: Warehouse) -> dict[tuple[str, str], tuple[int, str]]:
    """The load log: (asset key, day) to (rows, run id)."""
    log = selected(
        warehouse,
        "SELECT asset_key, coalesce(partition_date::VARCHAR, ''), rows, run_id "
        "FROM dixa_catalogue.loads",
    )
    found = {(key, day): (rows, run_id) for key, day, rows, run_id in log}
    assert len(found) == len(log), "a partition is noted twice"
    return found


# A partition is replaced whole


@pytest.mark.parametrize("new", [[9], [3, 4], [5, 6, 7, 8]], ids=["fewer", "as many", "more"])
def test_a_day_is_replaced_whole_and_its_neighbours_stay(
    warehouse: Warehouse, new: list[int]
) -> None:
    for day in ("2025-01-01", DAY, "2025-01-03"):
        load(warehouse, record(), day, integers(1, 2), run_id="first")

    load(warehouse, record(), DAY, integers(*new), run_id="second")

    assert numbers_by_day(warehouse) == {"2025-01-01": [1, 2], DAY: new, "2025-01-03": [1, 2]}
    assert noted_rows(warehouse) == {
        ("dixa_records/conversations", "2025-01-01"): (2, "first"),
        ("dixa_records/conversations", DAY): (len(new), "second"),
        ("dixa_records/conversations", "2025-01-03"): (2, "first"),
    }
    runs = selected(
        warehouse, "SELECT DISTINCT partition_date::VARCHAR, run_id FROM dixa_records.conversations"
    )
    assert set(runs) == {("2025-01-01", "first"), (DAY, "second"), ("2025-01-03", "first")}


def test_a_day_that_became_empty_loses_its_rows_and_is_noted_with_none(
    warehouse: Warehouse,
) -> None:
    load(warehouse, record(), "2025-01-01", integers(1))
    load(warehouse, record(), DAY, integers(2, 3))

    load(warehouse, record(), DAY, [])

    assert numbers_by_day(warehouse) == {"2025-01-01": [1]}
    assert noted_rows(warehouse)["dixa_records/conversations", DAY] == (0, "a-run")


def test_a_first_day_without_rows_makes_the_table(warehouse: Warehouse) -> None:
    load(warehouse, record(fields={"queue": "The queue."}), DAY, [])

    found = warehouse.query("SELECT queue FROM dixa_records.conversations")
    assert list(found.columns) == ["queue"]
    assert len(found) == 0
    assert noted_rows(warehouse) == {("dixa_records/conversations", DAY): (0, "a-run")}


def test_a_table_without_partitions_is_replaced_as_a_whole(warehouse: Warehouse) -> None:
    table = filter_table("QueueId", "queue_id")
    for values in (["a", "b"], ["c"]):
        with warehouse.staging() as folder:
            staged = Staged(folder / "rows.jsonl", table)
            for value in values:
                staged.add({"value": value, "label": value.upper()})
            warehouse.replace([Load("a-run", time.monotonic(), [staged])])

    assert selected(warehouse, "SELECT value, label FROM dixa_filters.queue_id") == [("c", "C")]
    assert noted_rows(warehouse) == {("dixa_filters/queue_id", ""): (1, "a-run")}


def test_a_load_is_noted_with_its_window(warehouse: Warehouse) -> None:
    load(warehouse, record(), "2025-03-30", [])

    assert selected(
        warehouse,
        "SELECT timezone, interval_start::VARCHAR, interval_end::VARCHAR FROM dixa_catalogue.loads",
    ) == [(COPENHAGEN, "2025-03-29 23:00:00+00", "2025-03-30 22:00:00+00")]


# A write that fails changes nothing


def broken_at_its_end(staged: Staged) -> None:
    staged.path.write_text(staged.path.read_text() + "{this is not JSON\n")


def cut_in_its_last_line(staged: Staged) -> None:
    staged.path.write_bytes(staged.path.read_bytes()[:-9])


def gone(staged: Staged) -> None:
    staged.path.unlink()


def with_a_value_that_does_not_fit(staged: Staged) -> None:
    lines = staged.path.read_text().splitlines()
    last = json.loads(lines[-1]) | {"primary_timestamp": "the other day"}
    staged.path.write_text("\n".join([*lines[:-1], json.dumps(last)]))


@pytest.mark.parametrize(
    "damage", [broken_at_its_end, cut_in_its_last_line, gone, with_a_value_that_does_not_fit]
)
def test_a_write_that_fails_leaves_partition_and_log_as_they_were(
    warehouse: Warehouse, damage: Callable[[Staged], None]
) -> None:
    load(warehouse, record(), DAY, integers(1, 2), run_id="first")
    before = noted_rows(warehouse)

    with warehouse.staging() as folder:
        staged = stage(folder, record(), DAY, integers(*range(5_000)))
        damage(staged)
        with pytest.raises(WarehouseError, match=r"dixa_records/conversations .* is as it was"):
            warehouse.replace([of_day(DAY, staged, "second")])

    assert numbers_by_day(warehouse) == {DAY: [1, 2]}
    assert noted_rows(warehouse) == before
    load(warehouse, record(), DAY, integers(3), run_id="third")
    assert numbers_by_day(warehouse) == {DAY: [3]}


def test_a_first_write_that_fails_can_be_repeated(warehouse: Warehouse) -> None:
    with warehouse.staging() as folder:
        staged = stage(folder, record(), DAY, integers(1))
        broken_at_its_end(staged)
        with pytest.raises(WarehouseError):
            warehouse.replace([of_day(DAY, staged)])
    assert noted_rows(warehouse) == {}

    load(warehouse, record(), DAY, integers(2))

    assert numbers_by_day(warehouse) == {DAY: [2]}


# Time zones


def print_days_around_clock_changes(path: str) -> None:
    """Write two days with a clock change and print what is read back. Run with another TZ."""
    warehouse = Warehouse(path, timezone=COPENHAGEN)
    for day in ("2025-03-30", "2025-10-26"):
        # Between half past midnight and half past one UTC the clocks change.
        instants = [f"{day}T00:30:00+00:00", f"{day}T01:30:00.123+00:00"]
        rows = [{"at": Value("TIMESTAMPTZ", instant)} for instant in instants]
        load(warehouse, record(), day, rows)
        load_metric(warehouse, "csat", day, [1.5])
    read = [
        'SELECT partition_date, primary_timestamp, "at" FROM dixa_records.conversations ORDER BY 3',
        "SELECT partition_date, interval_start, interval_end FROM dixa.metrics_daily ORDER BY 1",
        "SELECT strftime(\"at\", '%H:%M') FROM dixa_records.conversations ORDER BY 1",
    ]
    print(json.dumps([warehouse.query(sql).astype(str).to_numpy().tolist() for sql in read]))


def test_values_are_the_same_whatever_zone_the_process_lives_in(tmp_path: Path) -> None:
    script = f"import sys, {__name__} as t; t.print_days_around_clock_changes(sys.argv[1])"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / f"{number}.duckdb")],
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, "TZ": zone},
        )
        for number, zone in enumerate(["America/St_Johns", COPENHAGEN, "Pacific/Kiritimati"])
    ]
    read = [json.loads(child.communicate(timeout=60)[0]) for child in children]

    records = [
        ["2025-03-30", "2025-03-30 00:00:00+00:00", "2025-03-30 00:30:00.000+00:00"],
        ["2025-03-30", "2025-03-30 00:00:01+00:00", "2025-03-30 01:30:00.123+00:00"],
        ["2025-10-26", "2025-10-26 00:00:00+00:00", "2025-10-26 00:30:00.000+00:00"],
        ["2025-10-26", "2025-10-26 00:00:01+00:00", "2025-10-26 01:30:00.123+00:00"],
    ]
    metrics = [
        ["2025-03-30", "2025-03-29 23:00:00+00:00", "2025-03-30 22:00:00+00:00"],
        ["2025-10-26", "2025-10-25 22:00:00+00:00", "2025-10-26 23:00:00+00:00"],
    ]
    clocks = [["00:30"], ["00:30"], ["01:30"], ["01:30"]]
    assert read == [[records, metrics, clocks]] * 3


def test_days_of_another_zone_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "test.duckdb"
    warehouse = Warehouse(path, timezone=COPENHAGEN)
    load(warehouse, record(), DAY, integers(1))
    elsewhere = Warehouse(path, timezone="America/New_York")

    for attempt in (elsewhere.check, lambda: load(elsewhere, record(), DAY, integers(2, 3))):
        with pytest.raises(ConfigError, match=r"^DIXA_TIMEZONE: ") as raised:
            attempt()
        assert COPENHAGEN in str(raised.value)
        assert "America/New_York" in str(raised.value)

    assert numbers_by_day(warehouse) == {DAY: [1]}
    assert noted_rows(warehouse) == {("dixa_records/conversations", DAY): (1, "a-run")}


# Metrics


def test_a_metric_has_a_view_with_the_pinned_columns_over_the_shared_table(
    warehouse: Warehouse,
) -> None:
    load_metric(warehouse, "csat", DAY, [1.5, 2.5])
    load_metric(warehouse, "closed", DAY, [7])
    load_metric(warehouse, "csat", DAY, [3.5])

    view = warehouse.query("SELECT * FROM dixa_metrics.csat")
    assert list(view.columns) == [
        "partition_date",
        "interval_start",
        "interval_end",
        "timezone",
        "breakdown_attribute",
        "breakdown_value",
        "breakdown_label",
        "measure",
        "status",
        "value",
        "loaded_at",
        "run_id",
    ]
    assert view["value"].tolist() == [3.5]
    assert selected(
        warehouse, "SELECT metric, value FROM dixa_metrics.metric_values ORDER BY ALL"
    ) == [("closed", 7.0), ("csat", 3.5)]
    assert noted_rows(warehouse) == {
        ("dixa_metrics/csat", DAY): (1, "a-run"),
        ("dixa_metrics/closed", DAY): (1, "a-run"),
    }


@pytest.mark.parametrize("name", ["test.duckdb", "dixa.duckdb", "DIXA.db", "main.db", "a b'c\".db"])
def test_everything_is_found_under_its_name_whatever_the_file_is_called(
    tmp_path: Path, name: str
) -> None:
    warehouse = Warehouse(tmp_path / name, timezone=COPENHAGEN)
    load_metric(warehouse, "csat", DAY, [1.5])
    load(warehouse, record(), DAY, integers(1))

    # As any tool would ask, without this project's help.
    with duckdb.connect(str(tmp_path / name), read_only=True) as connection:
        daily = connection.sql("SELECT * FROM dixa.metrics_daily")
        assert daily.columns == ["metric", *(column.name for column in METRIC_COLUMNS)]
        assert [(row[0], row[10]) for row in daily.fetchall()] == [("csat", 1.5)]
        assert connection.sql("SELECT value FROM dixa_metrics.csat").fetchall() == [(1.5,)]
        assert connection.sql("FROM dixa_records.conversations").fetchall()


@pytest.mark.parametrize("schema", ["dixa_metrics", "dixa_records", "Dixa_Catalogue"])
def test_a_file_that_would_hide_a_schema_of_its_name_is_refused(
    tmp_path: Path, schema: str
) -> None:
    with pytest.raises(ConfigError, match=r"^DIXA_DUCKDB_PATH: "):
        Warehouse(tmp_path / f"{schema}.duckdb", timezone=COPENHAGEN)


@pytest.mark.parametrize("names", [("dixa.duckdb", "a.duckdb"), ("a.duckdb", "dixa.duckdb")])
def test_a_renamed_file_goes_on_and_back(tmp_path: Path, names: tuple[str, str]) -> None:
    paths = [tmp_path / name for name in (*names, names[0])]
    for number, path in enumerate(paths):
        if number:
            paths[number - 1].rename(path)
        warehouse = Warehouse(path, timezone=COPENHAGEN)
        warehouse.check()
        assert len(warehouse.query("FROM dixa.metrics_daily")) == number
        load_metric(warehouse, "csat", DAYS[number], [number])
        values = selected(warehouse, "SELECT value FROM dixa.metrics_daily ORDER BY ALL")
        assert values == [(float(each),) for each in range(number + 1)]
        assert len(warehouse.query("FROM dixa_metrics.csat")) == number + 1


# The read copy


@pytest.mark.parametrize(
    ("name", "copy"),
    [("test.duckdb", "dixa_read.duckdb"), ("dixa.duckdb", "read.duckdb"), ("a.db", "dixa.duckdb")],
)
def test_a_read_copy_holds_everything_under_the_same_names(
    tmp_path: Path, name: str, copy: str
) -> None:
    warehouse = Warehouse(tmp_path / name, timezone=COPENHAGEN)
    load_metric(warehouse, "csat", DAY, [1.5])
    load(warehouse, record(about="Talks."), DAY, integers(1, 2))

    size = warehouse.publish(tmp_path / "reading" / copy)

    assert [path.name for path in (tmp_path / "reading").iterdir()] == [copy]
    assert (tmp_path / "reading" / copy).stat().st_size == size
    with duckdb.connect(str(tmp_path / "reading" / copy), read_only=True) as connection:
        daily = connection.sql("SELECT metric, value FROM dixa.metrics_daily")
        assert daily.fetchall() == [("csat", 1.5)]
        assert len(connection.sql("FROM dixa_records.conversations").fetchall()) == 2
        assert connection.sql("SELECT value FROM dixa_metrics.csat").fetchall() == [(1.5,)]
        about = "SELECT comment FROM duckdb_tables() WHERE table_name = 'conversations'"
        assert connection.sql(about).fetchall() == [("Talks.",)]


def test_a_reader_keeps_its_copy_while_loads_write_and_the_next_copy_comes(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    copy = tmp_path / "read.duckdb"
    load(warehouse, record(), DAY, integers(1))
    warehouse.publish(copy)
    count = "SELECT count(*) FROM dixa_records.conversations"
    with child(hold_reading, str(copy)) as (_, pipe):
        assert pipe.recv() == 1
        load(warehouse, record(), DAY, integers(1, 2, 3))
        warehouse.publish(copy)
        pipe.send("again")
        assert pipe.recv() == 1
    with duckdb.connect(str(copy), read_only=True) as connection:
        assert connection.sql(count).fetchall() == [(3,)]


def hold_reading(path: str, pipe: Connection) -> None:
    """Keep a copy open, and count its rows when asked."""
    with duckdb.connect(path, read_only=True) as connection:
        for _ in range(2):
            pipe.send(
                connection.sql("SELECT count(*) FROM dixa_records.conversations").fetchall()[0][0]
            )
            pipe.recv()


def test_whoever_waits_for_an_open_database_says_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = Warehouse(tmp_path / "test.duckdb", timezone=COPENHAGEN, wait_seconds=0.5)
    warehouse.check()
    with child(hold, str(warehouse.path)) as (process, pipe):
        assert pipe.recv() == "held"
        holder = f"(process {process.pid})"
        with pytest.raises(WarehouseBusy):
            warehouse.check()
    (said,) = {
        record.message for record in caplog.records if record.name == "dixa_assets.warehouse"
    }
    assert holder in said
    assert "read copy" in said


# Others at the same file


def test_another_holder_of_the_file_is_waited_for(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAY, integers(1))
    with (
        child(hold, str(warehouse.path)) as (_, pipe),
        ThreadPoolExecutor() as pool,
    ):
        assert pipe.recv() == "held"
        waiting = pool.submit(load, warehouse, record(), DAY, integers(2))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        pipe.send("let go")
        waiting.result(timeout=10)

    assert numbers_by_day(warehouse) == {DAY: [2]}


def test_a_holder_that_stays_is_named_and_nothing_is_written(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAY, integers(1), run_id="first")
    impatient = Warehouse(warehouse.path, timezone=COPENHAGEN, wait_seconds=0.5)
    with child(hold, str(warehouse.path)) as (process, pipe):
        assert pipe.recv() == "held"
        with pytest.raises(WarehouseBusy, match=rf"\(process {process.pid}\)") as raised:
            load(impatient, record(), DAY, integers(2), run_id="second")

    assert raised.value.retryable
    assert numbers_by_day(warehouse) == {DAY: [1]}
    assert noted_rows(warehouse) == {("dixa_records/conversations", DAY): (1, "first")}


def test_waiting_for_other_loads_ends_too(warehouse: Warehouse) -> None:
    impatient = Warehouse(warehouse.path, timezone=COPENHAGEN, wait_seconds=0.3)
    warehouse.check()
    with (
        child(hold, str(warehouse.path)) as (_, pipe),
        ThreadPoolExecutor() as pool,
    ):
        assert pipe.recv() == "held"
        first = pool.submit(load, warehouse, record(), DAY, integers(1))
        with pytest.raises(TimeoutError):
            first.result(timeout=0.3)
        with pytest.raises(WarehouseBusy, match="other loads of this project"):
            load(impatient, record(), DAY, integers(2))
        pipe.send("let go")
        first.result(timeout=10)

    assert numbers_by_day(warehouse) == {DAY: [1]}


@pytest.mark.parametrize(
    "place",
    ["a folder", "a file/below.duckdb", "a file", "/dev/null", "/proc/nowhere/dixa.duckdb"],
)
def test_a_path_that_cannot_be_a_database_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("no database\n" * 1000)
    warehouse = Warehouse(tmp_path / place, timezone=COPENHAGEN, wait_seconds=30)

    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"^DIXA_DUCKDB_PATH: "):
        warehouse.check()

    assert time.monotonic() - began < 5
    assert (tmp_path / "a file").read_text() == "no database\n" * 1000


def check_without_rights(path: str, wait_seconds: float, pipe: Connection) -> None:
    """Send what `check` says to a user who may not write there."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        Warehouse(path, timezone=COPENHAGEN, wait_seconds=wait_seconds).check()
        pipe.send(("nothing", ""))
    except (DixaAssetsError, OSError) as error:
        pipe.send((type(error).__name__, str(error)))


@pytest.mark.parametrize("exists", [False, True], ids=["a new file", "a file of someone else"])
def test_a_place_without_the_right_to_write_is_refused_at_once(exists: bool) -> None:
    # Not below tmp_path, which pytest keeps to its owner.
    with TemporaryDirectory() as name:
        path = Path(name) / "test.duckdb"
        if exists:
            Warehouse(path, timezone=COPENHAGEN).check()
            for each in path.parent.iterdir():
                each.chmod(0o444)
        path.parent.chmod(0o555)
        with child(check_without_rights, str(path), 5.0) as (_, pipe):
            assert pipe.poll(3), "it waits"
            kind, message = pipe.recv()
        path.parent.chmod(0o755)

    assert kind == "ConfigError"
    assert message.startswith("DIXA_DUCKDB_PATH: ")


def write_again_and_again(path: str, numbers: list[int], pipe: Connection) -> None:
    warehouse = Warehouse(path, timezone=COPENHAGEN)
    pipe.recv()
    for _ in range(5):
        load(warehouse, record(), DAY, integers(*numbers))
    pipe.send("done")


def test_two_processes_at_the_same_day_end_with_the_version_of_one(warehouse: Warehouse) -> None:
    versions = [[1, 1, 1], [2, 2, 2, 2, 2]]
    path = str(warehouse.path)
    with (
        child(write_again_and_again, path, versions[0]) as (_, one),
        child(write_again_and_again, path, versions[1]) as (_, other),
    ):
        for pipe in (one, other):
            pipe.send("go")
        assert [pipe.recv() for pipe in (one, other)] == ["done", "done"]

    [numbers] = numbers_by_day(warehouse).values()
    assert numbers in versions
    assert noted_rows(warehouse) == {
        ("dixa_records/conversations", DAY): (len(numbers), "a-run"),
    }


def write_days_with_a_column(path: str, days: list[str], column: str, pipe: Connection) -> None:
    warehouse = Warehouse(path, timezone=COPENHAGEN)
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = [{"number": Value(BIGINT, 1), column: Value(VARCHAR, column)}]
        list(pool.map(lambda day: load(warehouse, record(), day, rows), days))
    pipe.send("done")


def test_many_writers_of_different_days_lose_none(warehouse: Warehouse) -> None:
    path = str(warehouse.path)
    with (
        child(write_days_with_a_column, path, DAYS[0::3], "a") as (_, one),
        child(write_days_with_a_column, path, DAYS[1::3], "b") as (_, two),
        child(write_days_with_a_column, path, DAYS[2::3], "c") as (_, three),
    ):
        assert [pipe.recv() for pipe in (one, two, three)] == ["done"] * 3

    assert numbers_by_day(warehouse) == {day: [1] for day in DAYS}
    assert len(noted_rows(warehouse)) == len(DAYS)
    by_column = "SELECT partition_date::VARCHAR, coalesce(a, b, c) FROM dixa_records.conversations"
    assert dict(selected(warehouse, by_column)) == {
        day: "abc"[number % 3] for number, day in enumerate(DAYS)
    }


# Killed in the middle


def write_days(path: str, version: int, pipe: Connection) -> None:
    """Write every day once, with a column of this version's own, and tell each that is done."""
    warehouse = Warehouse(path, timezone=COPENHAGEN)
    rows = [
        {"number": Value(BIGINT, version), f"in_{version}": Value(DOUBLE, 0.5)} for _ in range(200)
    ]
    for day in DAYS:
        load(warehouse, record(), day, rows, run_id=str(version))
        pipe.send(day)


def test_killed_writers_leave_every_day_whole_and_no_acknowledged_day_out(
    warehouse: Warehouse,
) -> None:
    moments = random.Random(20250102)
    expected: dict[str, int] = {}
    for version in range(10):
        acknowledged = set()
        with child(write_days, str(warehouse.path), version) as (process, pipe):
            acknowledged.add(pipe.recv())
            process.join(timeout=moments.uniform(0, 0.3))
            process.kill()
            process.join()
            while pipe.poll():
                try:
                    acknowledged.add(pipe.recv())
                except EOFError:
                    break

        found = numbers_by_day(warehouse)
        for day, numbers in found.items():
            assert numbers == [numbers[0]] * 200
            assert numbers[0] in {expected.get(day), version}
            assert numbers[0] == version or day not in acknowledged
        assert found.keys() >= expected.keys() | acknowledged
        expected = {day: numbers[0] for day, numbers in found.items()}
        assert noted_rows(warehouse) == {
            ("dixa_records/conversations", day): (200, str(number))
            for day, number in expected.items()
        }


# Staging


def staging_root(warehouse: Warehouse) -> Path:
    with warehouse.staging() as folder:
        return folder.parent


def test_a_staging_folder_stands_beside_the_database_and_is_gone_afterwards(
    warehouse: Warehouse,
) -> None:
    with warehouse.staging() as folder:
        (folder / "rows.jsonl").write_text("{}")
        assert folder.parent.parent == warehouse.path.parent
    assert list(folder.parent.iterdir()) == []


def test_a_staging_folder_is_gone_after_an_error(warehouse: Warehouse) -> None:
    seen: list[Path] = []

    def fail() -> None:
        with warehouse.staging() as folder:
            seen.append(folder)
            (folder / "rows.jsonl").write_text("{}")
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert list(seen[0].parent.iterdir()) == []


def stay_in_staging(path: str, pipe: Connection) -> None:
    with Warehouse(path, timezone=COPENHAGEN).staging() as folder:
        (folder / "rows.jsonl").write_text("{}")
        pipe.send(str(folder))
        pipe.recv()
    pipe.send("left")


def test_the_staging_folder_of_a_living_process_is_left_to_it(warehouse: Warehouse) -> None:
    with child(stay_in_staging, str(warehouse.path)) as (_, pipe):
        theirs = Path(pipe.recv())
        with warehouse.staging() as mine, warehouse.staging() as also_mine:
            assert {mine, also_mine, theirs} <= set(theirs.parent.iterdir())
            assert (theirs / "rows.jsonl").read_text() == "{}"
        pipe.send("leave")
        assert pipe.recv() == "left"

    assert list(theirs.parent.iterdir()) == []


@pytest.mark.parametrize("folder_is_gone", [False, True], ids=["folder and lock", "lock alone"])
def test_what_a_killed_process_left_in_staging_goes_with_the_next(
    warehouse: Warehouse, folder_is_gone: bool
) -> None:
    with child(stay_in_staging, str(warehouse.path)) as (_, pipe):
        left = Path(pipe.recv())
    assert left.is_dir()
    if folder_is_gone:
        # As after a kill in the midst of tidying, or before the folder was made.
        shutil.rmtree(left)

    root = staging_root(warehouse)

    assert root == left.parent
    assert list(root.iterdir()) == []


# The file


def test_the_file_can_be_opened_by_duckdb_1_5_whatever_version_wrote_it(
    warehouse: Warehouse,
) -> None:
    load(warehouse, record(), DAY, integers(1))

    [(version,)] = selected(
        warehouse,
        "SELECT tags['storage_version'] FROM duckdb_databases() "
        "WHERE database_name = current_database()",
    )
    assert version.startswith("v1.5.")


def test_a_load_fits_into_little_memory(tmp_path: Path) -> None:
    warehouse = Warehouse(
        tmp_path / "test.duckdb",
        timezone=COPENHAGEN,
        connection_config={"memory_limit": "256MB"},
    )

    load(warehouse, record(), DAY, integers(1))

    assert numbers_by_day(warehouse) == {DAY: [1]}


def test_a_row_of_twenty_megabytes_is_loaded(warehouse: Warehouse) -> None:
    text = "ß" * 10_000_000

    load(warehouse, record(), DAY, [{"text": Value(VARCHAR, text)}, {"text": Value(VARCHAR, "b")}])

    sizes = f"SELECT length({quote('text')}) FROM dixa_records.conversations ORDER BY ALL"
    assert selected(warehouse, sizes) == [(1,), (10_000_000,)]
