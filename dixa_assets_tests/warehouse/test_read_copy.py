"""The read copy: a compact copy that replaces an earlier one, and no other file."""

import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.warehouse import read_copy
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.handmade import DAY, integers, load, load_metric, record
from dixa_assets_tests.support.processes import child

pytestmark = pytest.mark.file

NUMBERS = "SELECT number FROM dixa_records.conversations ORDER BY number"


def numbers_in(copy: Path) -> list[int]:
    with duckdb.connect(str(copy), read_only=True) as connection:
        return [number for (number,) in connection.execute(NUMBERS).fetchall()]


def execute(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("name", "copy"),
    [("test.duckdb", "dixa_read.duckdb"), ("dixa.duckdb", "read.duckdb"), ("a.db", "dixa.duckdb")],
)
def test_a_read_copy_holds_everything_under_the_same_names(
    tmp_path: Path, name: str, copy: str
) -> None:
    warehouse = Warehouse(tmp_path / name)
    load_metric(warehouse, "csat", DAY, [1.5])
    load(warehouse, record(about="Talks."), DAY, integers(1, 2))

    made = warehouse.publish(tmp_path / "reading" / copy)

    assert [path.name for path in (tmp_path / "reading").iterdir()] == [copy]
    assert made == {"bytes": (tmp_path / "reading" / copy).stat().st_size}
    with duckdb.connect(str(tmp_path / "reading" / copy), read_only=True) as connection:
        daily = connection.sql("SELECT metric, value FROM dixa.metrics_daily")
        assert daily.fetchall() == [("csat", 1.5)]
        assert len(connection.sql("FROM dixa_records.conversations").fetchall()) == 2
        assert connection.sql("SELECT value FROM dixa_metrics.csat").fetchall() == [(1.5,)]
        about = "SELECT comment FROM duckdb_tables() WHERE table_name = 'conversations'"
        assert connection.sql(about).fetchall() == [("Talks.",)]
        listed = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
        views = [name for (name,) in connection.sql(listed).fetchall()]
        assert views == ["csat", "metrics_daily", "metrics_monthly", "metrics_weekly"]


def test_a_reader_keeps_its_copy_while_loads_write_and_publish_the_next(
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


# A file that is not the read copy


def a_text(path: Path) -> None:
    path.write_text("My notes.\n" * 1000)


def a_database_of_another_program(path: Path) -> None:
    execute(path, "CREATE TABLE theirs AS SELECT 1 AS id")


def the_database_of_another_account(path: Path) -> None:
    load(Warehouse(path, WarehouseSettings(account="acme")), record(), DAY, integers(1))


def the_copy_of_another_account(path: Path) -> None:
    other = path.with_name("acme.duckdb")
    the_database_of_another_account(other)
    Warehouse(other, WarehouseSettings(account="acme")).publish(path)


def a_backup(path: Path) -> None:
    shutil.copy(path.with_name("test.duckdb"), path)


@pytest.mark.parametrize(
    "other",
    [
        a_text,
        a_database_of_another_program,
        the_database_of_another_account,
        the_copy_of_another_account,
        a_backup,
    ],
)
def test_another_file_is_never_replaced(
    warehouse: Warehouse, tmp_path: Path, other: Callable[[Path], None]
) -> None:
    load(warehouse, record(), DAY, integers(1, 2))
    path = tmp_path / "read.duckdb"
    other(path)
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=f"^read_copy_path: {path} was not written by"):
        warehouse.publish(path)

    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_copy_is_replaced_after_the_database_was_made_anew(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    copy = tmp_path / "read.duckdb"
    load(warehouse, record(), DAY, integers(1))
    warehouse.publish(copy)
    warehouse.path.unlink()
    load(warehouse, record(), DAY, integers(2))

    warehouse.publish(copy)

    assert numbers_in(copy) == [2]


def test_a_copy_of_an_earlier_release_and_an_empty_file_are_replaced(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load(warehouse, record(), DAY, integers(1))
    copy, empty = tmp_path / "read.duckdb", tmp_path / "empty.duckdb"
    empty.touch()
    shutil.copy(warehouse.path, copy)
    execute(
        copy,
        "ALTER TABLE dixa_catalogue.warehouse DROP COLUMN copied_at",
        "ALTER TABLE dixa_catalogue.warehouse DROP COLUMN database_id",
    )
    load(warehouse, record(), DAY, integers(2))

    for path in (copy, empty):
        warehouse.publish(path)
        assert numbers_in(path) == [2]


def hold_writing(path: str, pipe: Connection) -> None:
    """Open a copy as most tools do, change it, and keep it open."""
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS mine AS SELECT 1 AS one")
        pipe.send("held")
        pipe.recv()


def test_a_copy_that_a_program_has_open_for_writing_is_replaced(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    copy = tmp_path / "read.duckdb"
    load(warehouse, record(), DAY, integers(1))
    warehouse.publish(copy)
    load(warehouse, record(), DAY, integers(2))
    with child(hold_writing, str(copy)) as (_, pipe):
        assert pipe.recv() == "held"
        warehouse.publish(copy)
        assert numbers_in(copy) == [2]


def test_the_log_of_a_replaced_copy_is_removed(warehouse: Warehouse, tmp_path: Path) -> None:
    copy = tmp_path / "read.duckdb"
    load(warehouse, record(), DAY, integers(1))
    warehouse.publish(copy)
    with child(hold_writing, str(copy)) as (process, pipe):
        assert pipe.recv() == "held"
        process.kill()
    assert Path(f"{copy}.wal").exists()

    load(warehouse, record(), DAY, integers(2))
    warehouse.publish(copy)

    assert numbers_in(copy) == [2]


# Objects that DuckDB cannot copy


def test_foreign_keys_of_another_program_are_copied(warehouse: Warehouse, tmp_path: Path) -> None:
    load(warehouse, record(), DAY, integers(1, 2))
    execute(
        warehouse.path,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.a_customers(id INTEGER PRIMARY KEY)",
        "CREATE TABLE shop.b_orders(id INTEGER PRIMARY KEY, customer INTEGER REFERENCES "
        "shop.a_customers(id))",
        "CREATE TABLE shop.c_lines(order_id INTEGER REFERENCES shop.b_orders(id))",
        "INSERT INTO shop.a_customers VALUES (1)",
        "INSERT INTO shop.b_orders VALUES (1, 1)",
        "INSERT INTO shop.c_lines VALUES (1), (1)",
        "CREATE VIEW shop.all_lines AS FROM shop.c_lines",
    )

    made = warehouse.publish(tmp_path / "read.duckdb")

    assert made.keys() == {"bytes"}
    assert numbers_in(tmp_path / "read.duckdb") == [1, 2]
    with duckdb.connect(str(tmp_path / "read.duckdb"), read_only=True) as connection:
        assert connection.execute("FROM shop.all_lines").fetchall() == [(1,), (1,)]
        assert connection.execute("FROM shop.b_orders").fetchall() == [(1, 1)]


def test_a_table_that_cannot_be_copied_is_named_and_the_others_are_copied(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load(warehouse, record(), DAY, integers(1, 2))
    execute(
        warehouse.path,
        # DuckDB inserts all rows at once, and a row may not name another of them.
        "CREATE TABLE people(id INTEGER PRIMARY KEY, head INTEGER REFERENCES people(id))",
        "INSERT INTO people VALUES (1, NULL)",
        "INSERT INTO people VALUES (2, 1)",
    )

    made = warehouse.publish(tmp_path / "read.duckdb")

    assert made["rows left out"] == "main.people"
    assert numbers_in(tmp_path / "read.duckdb") == [1, 2]


# Killed processes


def publish(path: str, copy: str, pipe: Connection) -> None:
    """Stop in the middle of a copy, when its rows are in a file."""
    ensure = read_copy.ensure_views

    def stop(*given: object, **more: object) -> None:
        pipe.send("copied")
        pipe.recv()
        ensure(*given, **more)  # type: ignore[arg-type]

    read_copy.ensure_views = stop
    Warehouse(path).publish(Path(copy))


def test_the_next_publish_removes_what_killed_ones_left_and_nothing_else(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load(warehouse, record(), DAY, integers(1))
    folder = tmp_path / "reading"
    folder.mkdir()
    copy = folder / "read.duckdb"
    mine = [folder / name for name in (".read.duckdb-backup", f".read.duckdb-{'a' * 32}")]
    for each in mine:
        each.mkdir()
        (each / "read.duckdb").write_text("mine")
    for _ in range(2):
        with child(publish, str(warehouse.path), str(copy)) as (process, pipe):
            assert pipe.recv() == "copied"
            process.kill()
            process.join()
    # The folder of the second one, and its lock.
    assert len({*folder.iterdir()} - {*mine}) == 2

    with child(publish, str(warehouse.path), str(copy)) as (_, pipe):
        assert pipe.recv() == "copied"
        # The folder of a living process stays.
        warehouse.publish(copy)
        pipe.send("go on")
        assert pipe.poll(10)
        with pytest.raises(EOFError):
            pipe.recv()

    assert {*folder.iterdir()} == {copy, *mine}
    assert numbers_in(copy) == [1]
    assert all((each / "read.duckdb").read_text() == "mine" for each in mine)
