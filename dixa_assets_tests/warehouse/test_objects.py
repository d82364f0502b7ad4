"""Objects of other programs in the database: nothing changes them, and they stop little."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.values import BIGINT, VARCHAR, Value
from dixa_assets.warehouse import load_log
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.conftest import Done
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

pytestmark = pytest.mark.file

CONTENTS = "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() UNION ALL "
CONTENTS += "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE NOT internal"


def execute(path: Path, *statements: str) -> None:
    """Run statements as another program does."""
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def contents(path: Path) -> set[tuple[Any, ...]]:
    """Every table and view of a file, with its definition."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return set(connection.execute(CONTENTS).fetchall())


# A schema `dixa` in `dixa.duckdb`


@pytest.mark.parametrize("schema", ["dixa", "Dixa"])
def test_a_schema_of_another_program_is_named_and_left_alone(
    schema: str, command: Callable[..., Done], tmp_path: Path
) -> None:
    path = tmp_path / "dixa.duckdb"
    execute(
        path,
        f"CREATE SCHEMA dixa.{schema}",
        f"CREATE TABLE dixa.{schema}.orders AS SELECT 1 AS id",
    )
    before = path.read_bytes()

    done = command("doctor", DIXA_DUCKDB_PATH=str(path))

    assert done.code == 1
    assert "DIXA_DUCKDB_PATH: 'dixa' has a schema 'dixa' of another program" in done.err
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="of another program"):
        load(Warehouse(path), record(), DAY, integers(1))
    assert path.read_bytes() == before


def test_a_renamed_file_keeps_what_a_person_put_into_its_schema(tmp_path: Path) -> None:
    old, path = tmp_path / "old.duckdb", tmp_path / "dixa.duckdb"
    load_metric(Warehouse(old), "csat", DAY, [1.5])
    execute(old, "CREATE VIEW dixa.mine AS SELECT 1 AS one", "CREATE MACRO dixa.add(a) AS a + 1")
    old.rename(path)
    before = contents(path)

    with pytest.raises(ConfigError, match=r'macro function "add", view "mine"|view "mine", macro'):
        Warehouse(path).check()

    assert contents(path) == before
    path.rename(old)
    assert selected(Warehouse(old), "SELECT value FROM dixa.metrics_daily") == [(1.5,)]


# Objects with own names


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("CREATE TABLE dixa_records.conversations(a INTEGER)", "table dixa_records.conversations"),
        ("CREATE TABLE dixa_records.CONVERSATIONS(a INTEGER)", "table dixa_records.conversations"),
        ("CREATE VIEW dixa_records.conversations AS SELECT 1", "view dixa_records.conversations"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["a new database", "a loaded one"])
def test_a_relation_with_the_name_of_a_record_is_named_and_stops_that_record_only(
    is_first: bool, statement: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "test.duckdb"
    if not is_first:
        load(Warehouse(path), record("other"), DAY, integers(1))
    execute(path, "CREATE SCHEMA IF NOT EXISTS dixa_records", statement)
    theirs = {row for row in contents(path) if row[1].lower() == "conversations"}

    with pytest.raises(ConfigError, match=f"^duckdb_path: this project did not make the {name}"):
        load(Warehouse(path), record(), DAY, integers(1))

    load(Warehouse(path), record("other"), DAYS[5], integers(2))
    assert theirs < contents(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE dixa_catalogue.loads(a INTEGER)",
        "CREATE VIEW dixa_catalogue.columns AS SELECT 1 AS a",
        "CREATE TABLE dixa_catalogue.warehouse(timezone VARCHAR)",
        "CREATE SCHEMA dixa_metrics; CREATE TABLE dixa_metrics.metric_values(value DOUBLE)",
        "CREATE SCHEMA dixa; CREATE TABLE dixa.metrics_daily(value DOUBLE)",
    ],
)
def test_a_relation_with_the_name_of_an_own_table_is_named_and_nothing_is_made(
    statement: str, tmp_path: Path
) -> None:
    path = tmp_path / "test.duckdb"
    execute(path, "CREATE SCHEMA dixa_catalogue", statement)
    before = contents(path)

    for look in (Warehouse(path).check, Warehouse(path).verify, Warehouse(path).inventory):
        with pytest.raises(ConfigError, match="^duckdb_path: this project did not make the"):
            look()

    assert contents(path) == before


@pytest.mark.parametrize(
    "theirs",
    [
        "VIEW dixa_metrics.csat AS SELECT value FROM dixa_metrics.metric_values",
        "VIEW dixa_metrics.csat AS SELECT * FROM dixa_metrics.metric_values",
        "VIEW dixa_metrics.CSAT AS SELECT 1 AS value",
        "TABLE dixa_metrics.csat AS SELECT 1 AS value",
    ],
)
def test_a_relation_with_the_name_of_a_metric_stops_that_metric_only(
    theirs: str, tmp_path: Path
) -> None:
    path = tmp_path / "test.duckdb"
    load_metric(Warehouse(path), "csat", DAY, [1.5])
    execute(path, "DROP VIEW dixa_metrics.csat", f"CREATE {theirs}")
    before = contents(path)

    with pytest.raises(ConfigError, match="did not make the (view|table) dixa_metrics.csat"):
        load_metric(Warehouse(path), "csat", DAYS[5], [2.5], about="A description.")

    assert contents(path) == before
    load_metric(Warehouse(path), "nps", DAYS[5], [2.5])
    assert noted_rows(Warehouse(path)).keys() == {
        ("dixa_metrics/csat", DAY),
        ("dixa_metrics/nps", DAYS[5]),
    }


@pytest.mark.parametrize("metric", ["csat", "it's", 'a "name" AS SELECT x FROM y;', "new\nline ("])
def test_an_own_view_gets_a_new_description(metric: str, tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "test.duckdb")
    for day, about in ((DAY, "Old."), (DAYS[5], "New.")):
        load_metric(warehouse, metric, day, [1.5], about=about)

    comment = "SELECT comment FROM duckdb_views() WHERE view_name = ?"
    assert warehouse.query(comment, [metric]).comment.tolist() == ["New."]


# Changes of a person in own tables


def test_a_dropped_or_renamed_table_is_made_again_without_its_old_loads(
    warehouse: Warehouse,
) -> None:
    for day in DAYS[:3]:
        load(warehouse, record(), day, integers(1))
        load(warehouse, record("other"), day, integers(1))
        load_metric(warehouse, "csat", day, [1.5])
    execute(
        warehouse.path,
        "DROP TABLE dixa_records.conversations",
        "ALTER TABLE dixa_records.other RENAME TO mine",
        "DROP TABLE dixa_metrics.metric_values",
    )
    assert warehouse.inventory().loads == {}

    load(warehouse, record(), DAYS[3], integers(4))
    load(warehouse, record("other"), DAYS[3], integers(4))
    load_metric(warehouse, "csat", DAYS[3], [4])

    assert numbers_by_day(warehouse) == {DAYS[3]: [4]}
    assert {day for _, day in noted_rows(warehouse)} == {DAYS[3]}
    assert selected(warehouse, "SELECT count(*) FROM dixa_records.mine") == [(3,)]


def test_a_dropped_column_comes_back_and_an_added_one_keeps_its_name(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAY, integers(1))
    execute(
        warehouse.path,
        "ALTER TABLE dixa_records.conversations DROP COLUMN number",
        "ALTER TABLE dixa_records.conversations ADD COLUMN note VARCHAR",
    )

    row = {"number": Value(BIGINT, 2), "note": Value(VARCHAR, "theirs")}
    load(warehouse, record(), DAYS[5], [row])

    found = selected(
        warehouse,
        "SELECT coalesce(number, 0), coalesce(note, ''), coalesce(note_, '') "
        "FROM dixa_records.conversations ORDER BY partition_date",
    )
    assert found == [(0, "", ""), (2, "", "theirs")]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE INDEX mine ON dixa_records.conversations(number)", "index dixa_records.mine"),
        ("CREATE UNIQUE INDEX mine ON dixa_records.conversations(number)", "dixa_records.mine"),
        ("ALTER TABLE dixa_records.conversations ALTER number SET NOT NULL", "a constraint"),
    ],
)
def test_an_index_or_constraint_that_prevents_a_load_is_named(
    warehouse: Warehouse, statement: str, named: str
) -> None:
    load(warehouse, record(), DAY, integers(1))
    execute(warehouse.path, statement)

    # A wider type; a value that occurs twice; no value.
    rows = [{"number": Value(VARCHAR, "secret")}] * 2 if "NULL" not in statement else [{}]
    with pytest.raises(WarehouseError) as raised:
        load(warehouse, record(), DAYS[5], rows)

    assert named in str(raised.value)
    assert "Drop it, and load again" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert not raised.value.retryable
    assert numbers_by_day(warehouse) == {DAY: [1]}
    load(warehouse, record("other"), DAYS[5], rows)


def test_other_objects_in_the_file_disturb_no_load(warehouse: Warehouse) -> None:
    load(warehouse, record(), DAY, integers(1))
    execute(
        warehouse.path,
        "CREATE SCHEMA shop",
        "CREATE TYPE shop.size AS ENUM ('s', 'm')",
        "CREATE SEQUENCE shop.ids",
        "CREATE TABLE shop.customers(id INTEGER PRIMARY KEY DEFAULT nextval('shop.ids'))",
        "CREATE TABLE shop.orders(size shop.size, customer INTEGER REFERENCES shop.customers(id), "
        "twice INTEGER GENERATED ALWAYS AS (2 * customer))",
        "CREATE MACRO shop.total() AS (SELECT count(*) FROM dixa_records.conversations)",
        "CREATE VIEW shop.rows AS FROM dixa_records.conversations",
    )
    before = {row for row in contents(warehouse.path) if row[0] == "shop"}

    for number, value in enumerate([Value(VARCHAR, "x"), Value(BIGINT, 3)]):
        load(warehouse, record(), DAYS[5 + number], [{"number": value, "new": value}])

    assert {row for row in contents(warehouse.path) if row[0] == "shop"} == before
    assert selected(warehouse, "SELECT shop.total()") == [(3,)]


# Looks write nothing


def test_the_doctor_makes_no_database(command: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "data" / "dixa.duckdb"

    done = command("doctor", DIXA_DUCKDB_PATH=str(path))

    assert (done.code, done.err) == (0, "")
    assert not path.parent.exists()


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_doctor_leaves_a_database_as_it_is(
    is_ours: bool, command: Callable[..., Done], tmp_path: Path
) -> None:
    path = tmp_path / "dixa.duckdb"
    if is_ours:
        load(Warehouse(path), record(), DAY, integers(1))
        # An earlier release had neither the id nor the table.
        execute(
            path,
            "ALTER TABLE dixa_catalogue.warehouse DROP COLUMN database_id",
            "DROP TABLE dixa_catalogue.catalogue_json",
        )
    else:
        execute(path, "CREATE TABLE theirs AS SELECT 1 AS id")
    before = path.read_bytes()

    done = command("doctor", DIXA_DUCKDB_PATH=str(path))

    assert (done.code, done.err) == (0, "")
    assert path.read_bytes() == before


def test_a_database_of_an_earlier_release_gets_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "test.duckdb"
    load(Warehouse(path), record(), DAY, integers(1))
    execute(
        path,
        "ALTER TABLE dixa_catalogue.warehouse DROP COLUMN database_id",
        "ALTER TABLE dixa_catalogue.warehouse DROP COLUMN copied_at",
        "DROP TABLE dixa_catalogue.catalogue_json",
    )
    assert Warehouse(path).inventory().database_id == ""

    load(Warehouse(path), record(), DAYS[5], integers(2))

    found = Warehouse(path).inventory()
    assert len(found.database_id) == 36
    assert {*found.loads["dixa_records/conversations"]} == {DAY, DAYS[5]}
    assert not Warehouse(path).catalogue().entries


# A database that is replaced under a living process


@pytest.mark.parametrize(("setting", "value"), [("timezone", "Pacific/Apia"), ("account", "acme")])
def test_a_living_process_refuses_the_database_of_another_zone_or_account(
    warehouse: Warehouse, tmp_path: Path, setting: str, value: str
) -> None:
    load(warehouse, record(), DAYS[5], integers(1))
    other = Warehouse(tmp_path / "other.duckdb", WarehouseSettings(**{setting: value}))
    load(other, record(), DAY, integers(1))
    shutil.copy(other.path, warehouse.path)

    with pytest.raises(ConfigError, match=f"^{setting}"):
        load(warehouse, record(), DAYS[6], integers(2))

    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        days = "SELECT partition_date::VARCHAR FROM dixa_records.conversations"
        assert connection.execute(days).fetchall() == [(DAY,)]


def deleted(path: Path) -> None:
    path.unlink()


def of_another_program(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE theirs AS SELECT 1 AS id")


@pytest.mark.parametrize("replace", [deleted, of_another_program])
def test_a_living_process_makes_its_tables_in_a_new_file(
    warehouse: Warehouse, replace: Callable[[Path], None]
) -> None:
    load(warehouse, record(), DAY, integers(1))
    former = warehouse.inventory().database_id
    replace(warehouse.path)
    assert warehouse.inventory().loads == {}

    load(warehouse, record(), DAYS[5], integers(2))

    assert numbers_by_day(warehouse) == {DAYS[5]: [2]}
    assert warehouse.inventory().database_id not in ("", former)


def test_a_write_into_a_file_that_is_replaced_meanwhile_is_repeated(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(warehouse, record(), DAY, integers(1))
    backup = Path(shutil.copy(warehouse.path, tmp_path / "backup.duckdb"))
    write_loads = load_log.write_loads
    moves = [backup]

    def replaced_meanwhile(*given: Any) -> None:
        if moves:
            moves.pop().rename(warehouse.path)
        write_loads(*given)

    monkeypatch.setattr(load_log, "write_loads", replaced_meanwhile)
    load(warehouse, record(), DAYS[5], integers(2))

    assert numbers_by_day(warehouse) == {DAY: [1], DAYS[5]: [2]}
    assert Warehouse(warehouse.path).inventory().loads == warehouse.inventory().loads
