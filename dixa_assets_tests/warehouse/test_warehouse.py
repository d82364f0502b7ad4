"""A partition is replaced as a whole or stays as it was, in any zone and under any name."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.tables import METRIC_COLUMNS, Relation, filter_relation
from dixa_assets.model.values import VARCHAR, Value
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import quote
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import (
    DAY,
    DAYS,
    integers,
    load,
    load_metric,
    noted_rows,
    numbers_by_day,
    of_day,
    record,
    selected,
    stage,
)
from dixa_assets_tests.support.processes import PROJECT
from dixa_assets_tests.support.simulator import COPENHAGEN

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


def test_an_empty_day_deletes_the_rows_and_is_in_the_load_log(
    warehouse: Warehouse,
) -> None:
    load(warehouse, record(), "2025-01-01", integers(1))
    load(warehouse, record(), DAY, integers(2, 3))

    load(warehouse, record(), DAY, [])

    assert numbers_by_day(warehouse) == {"2025-01-01": [1]}
    assert noted_rows(warehouse)["dixa_records/conversations", DAY] == (0, "a-run")


def test_a_first_day_without_rows_creates_the_table(warehouse: Warehouse) -> None:
    load(warehouse, record(fields={"queue": "The queue."}), DAY, [])

    found = warehouse.query("SELECT queue FROM dixa_records.conversations")
    assert list(found.columns) == ["queue"]
    assert len(found) == 0
    assert noted_rows(warehouse) == {("dixa_records/conversations", DAY): (0, "a-run")}


def test_a_table_without_partitions_is_replaced_as_a_whole(warehouse: Warehouse) -> None:
    relation = filter_relation("QueueId", "queue_id")
    for values in (["a", "b"], ["c"]):
        with warehouse.staging() as folder:
            staged = Staged(folder / "rows.jsonl", relation.stored_in)
            for value in values:
                staged.add_row({"value": value, "label": value.upper()})
            warehouse.replace(relation, [Load("a-run", time.monotonic(), [staged])])

    assert selected(warehouse, "SELECT value, label FROM dixa_filters.queue_id") == [("c", "C")]
    assert noted_rows(warehouse) == {("dixa_filters/queue_id", ""): (1, "a-run")}


def test_the_load_log_has_the_period_of_a_day(warehouse: Warehouse) -> None:
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
        with pytest.raises(
            WarehouseError, match=r"dixa_records/conversations .* they did not change"
        ):
            warehouse.replace(Relation.whole(record()), [of_day(DAY, staged, "second")])

    assert numbers_by_day(warehouse) == {DAY: [1, 2]}
    assert noted_rows(warehouse) == before
    load(warehouse, record(), DAY, integers(3), run_id="third")
    assert numbers_by_day(warehouse) == {DAY: [3]}


def test_a_first_write_that_fails_can_be_repeated(warehouse: Warehouse) -> None:
    with warehouse.staging() as folder:
        staged = stage(folder, record(), DAY, integers(1))
        broken_at_its_end(staged)
        with pytest.raises(WarehouseError):
            warehouse.replace(Relation.whole(record()), [of_day(DAY, staged)])
    assert noted_rows(warehouse) == {}

    load(warehouse, record(), DAY, integers(2))

    assert numbers_by_day(warehouse) == {DAY: [2]}


# Time zones


def print_days_around_clock_changes(path: str) -> None:
    """Write two days with a clock change and print what is read back. Run with another TZ."""
    warehouse = Warehouse(path)
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


def test_values_do_not_depend_on_the_zone_of_the_process(tmp_path: Path) -> None:
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
    warehouse = Warehouse(path)
    load(warehouse, record(), DAY, integers(1))
    elsewhere = Warehouse(path, WarehouseSettings(timezone="America/New_York"))

    for attempt in (elsewhere.check, lambda: load(elsewhere, record(), DAY, integers(2, 3))):
        with pytest.raises(ConfigError, match=r"^timezone: ") as raised:
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
def test_every_table_has_its_name_under_any_name_of_the_file(tmp_path: Path, name: str) -> None:
    warehouse = Warehouse(tmp_path / name)
    load_metric(warehouse, "csat", DAY, [1.5])
    load(warehouse, record(), DAY, integers(1))

    # As any other program opens it.
    with duckdb.connect(str(tmp_path / name), read_only=True) as connection:
        daily = connection.sql("SELECT * FROM dixa.metrics_daily")
        assert daily.columns == ["metric", *(column.name for column in METRIC_COLUMNS)]
        assert [(row[0], row[10]) for row in daily.fetchall()] == [("csat", 1.5)]
        assert connection.sql("SELECT value FROM dixa_metrics.csat").fetchall() == [(1.5,)]
        assert connection.sql("FROM dixa_records.conversations").fetchall()


@pytest.mark.parametrize("schema", ["dixa_metrics", "dixa_records", "Dixa_Catalogue"])
def test_a_file_with_the_name_of_a_schema_is_refused(tmp_path: Path, schema: str) -> None:
    with pytest.raises(ConfigError, match=r"^duckdb_path: "):
        Warehouse(tmp_path / f"{schema}.duckdb")


@pytest.mark.parametrize("names", [("dixa.duckdb", "a.duckdb"), ("a.duckdb", "dixa.duckdb")])
def test_a_file_can_be_renamed_and_renamed_back(tmp_path: Path, names: tuple[str, str]) -> None:
    paths = [tmp_path / name for name in (*names, names[0])]
    for number, path in enumerate(paths):
        if number:
            paths[number - 1].rename(path)
        warehouse = Warehouse(path)
        warehouse.check()
        assert len(warehouse.query("FROM dixa.metrics_daily")) == number
        load_metric(warehouse, "csat", DAYS[number], [number])
        values = selected(warehouse, "SELECT value FROM dixa.metrics_daily ORDER BY ALL")
        assert values == [(float(each),) for each in range(number + 1)]
        assert len(warehouse.query("FROM dixa_metrics.csat")) == number + 1


# Signals


def press_ctrl_c(connection: duckdb.DuckDBPyConnection, rows: str, noted: list[int]) -> None:
    """Send the signal in a query over some rows, and note the number of rows that it read."""
    read = 0

    def press(_: int) -> int:
        nonlocal read
        read += 1
        if read == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return read

    connection.create_function("press", press, ["BIGINT"], "BIGINT", side_effects=True)
    try:
        connection.execute(f"SELECT count(press(n)) FROM {rows} t(n)").fetchall()
    finally:
        noted.append(read)


@pytest.mark.parametrize("rows", [1, 1_000_000])
def test_ctrl_c_ends_a_query_and_is_raised(warehouse: Warehouse, rows: int) -> None:
    read: list[int] = []
    load(warehouse, record(), DAY, integers(1))

    with pytest.raises(KeyboardInterrupt):
        warehouse.run(press_ctrl_c, f"range({rows})", read)

    assert read == [1] if rows == 1 else read[0] < rows
    assert numbers_by_day(warehouse) == {DAY: [1]}


def test_a_change_is_undone_by_ctrl_c(warehouse: Warehouse) -> None:
    def change() -> None:
        with warehouse.changing() as connection:
            connection.execute("DELETE FROM dixa_records.conversations")
            press_ctrl_c(connection, "range(1000000)", [])

    load(warehouse, record(), DAY, integers(1))
    with pytest.raises(KeyboardInterrupt):
        change()

    assert numbers_by_day(warehouse) == {DAY: [1]}


# The file


@pytest.mark.file
def test_duckdb_1_5_can_open_the_file(
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
        connection_config={"memory_limit": "256MB"},
    )

    load(warehouse, record(), DAY, integers(1))

    assert numbers_by_day(warehouse) == {DAY: [1]}


def test_a_row_of_twenty_megabytes_is_loaded(warehouse: Warehouse) -> None:
    text = "ß" * 10_000_000

    load(warehouse, record(), DAY, [{"text": Value(VARCHAR, text)}, {"text": Value(VARCHAR, "b")}])

    sizes = f"SELECT length({quote('text')}) FROM dixa_records.conversations ORDER BY ALL"
    assert selected(warehouse, sizes) == [(1,), (10_000_000,)]
