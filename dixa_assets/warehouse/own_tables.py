"""The project's own tables and the view of all metrics, which every database has."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import duckdb

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import (
    COLUMNS,
    LOADS,
    METRIC_VALUES,
    METRICS_DAILY,
    OWN_TABLES,
    Column,
    Table,
)
from dixa_assets.warehouse.objects import (
    add_column,
    checkpoint,
    create_table,
    create_view,
    find_relation,
    foreign,
    is_own_view,
    save_columns,
    write_comments,
)
from dixa_assets.warehouse.sql import literal, name_of, names_of, quote, transaction

# Fails if a column is missing. No statement for a complete database has parameters: the first one
# makes DuckDB import pandas, which takes longer than everything else here, and a load waits for it.
_USE_ALL = "SELECT 1 FROM " + ", ".join(
    f"(SELECT {names_of(table.columns)} FROM {name_of(table)} LIMIT 0)"
    for table in (*OWN_TABLES, METRICS_DAILY)
)


def is_complete(connection: duckdb.DuckDBPyConnection) -> bool:
    """True if the database has every own table with every column, and the view of all metrics."""
    try:
        connection.execute(_USE_ALL)
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def ensure_own_tables(connection: duckdb.DuckDBPyConnection, *, is_lake: bool) -> None:
    """Create what a database lacks.

    Raises:
        ConfigError: Another program made a table or view with the name of an own one.
    """
    if not is_complete(connection):
        with transaction(connection):
            create_missing(connection, is_lake=is_lake)
        checkpoint(connection, is_lake=is_lake)


@contextmanager
def dry_run(connection: duckdb.DuckDBPyConnection, *, is_lake: bool) -> Iterator[None]:
    """Inside the block the database has every own table; afterwards it is as before."""
    connection.execute("BEGIN")
    try:
        create_missing(connection, is_lake=is_lake)
        yield
    finally:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")


def create_missing(connection: duckdb.DuckDBPyConnection, *, is_lake: bool) -> None:
    """Create what a database lacks, inside a transaction."""
    missing = _missing_columns(connection)
    created = {table for table, columns in missing.items() if len(columns) == len(table.columns)}
    for table, columns in missing.items():
        if table in created:
            create_table(connection, table, columns)
            continue
        for column in columns:
            add_column(connection, table, column)
        write_comments(connection, "TABLE", table, columns)
    for table in OWN_TABLES if COLUMNS in created else missing:
        save_columns(connection, table, table.columns)
    if METRIC_VALUES in created:
        # The rows of these loads are gone with the former table.
        schema = literal(f"{METRIC_VALUES.schema}/")
        connection.execute(f"DELETE FROM {name_of(LOADS)} WHERE starts_with(asset_key, {schema})")
    ensure_daily_view(connection, is_lake=is_lake)


def _missing_columns(connection: duckdb.DuckDBPyConnection) -> dict[Table, list[Column]]:
    """The columns that own tables lack, by table."""
    schemas = ", ".join({literal(table.schema): None for table in OWN_TABLES})
    present = set(
        connection.execute(
            "SELECT lower(schema_name), lower(table_name), lower(column_name) "
            "FROM duckdb_columns() WHERE database_name = current_database() "
            f"AND lower(schema_name) IN ({schemas})"
        ).fetchall()
    )
    missing = {
        table: [c for c in table.columns if (table.schema, table.name, c.name) not in present]
        for table in OWN_TABLES
    }
    registered: set[tuple[str, str]] = set()
    if not missing[COLUMNS]:
        names = f"SELECT DISTINCT table_schema, table_name FROM {name_of(COLUMNS)}"
        registered = set(connection.execute(names).fetchall())
    for table in OWN_TABLES:
        found = find_relation(connection, table)
        is_own = (table.schema, table.name) in registered or (
            found is not None and found.comment == table.comment
        )
        if found and (found.kind == "view" or not is_own):
            raise foreign(found.kind, table)
    return {table: columns for table, columns in missing.items() if columns}


def ensure_daily_view(
    connection: duckdb.DuckDBPyConnection, *, is_lake: bool = False, setting: str = "duckdb_path"
) -> None:
    """Create the view of all metrics, so that queries find it as `dixa.metrics_daily`.

    DuckDB names a database after its file. In `dixa.duckdb` a schema `dixa` would make every name
    `dixa.…` ambiguous, so the view is in the schema `main` there.

    Args:
        connection: The database, inside a transaction.
        is_lake: Whether it is a lake.
        setting: The setting that names it.

    Raises:
        ConfigError: Objects of another program are in the way.
    """
    ((database,),) = connection.execute("SELECT current_database()").fetchall()
    view = METRICS_DAILY
    if database.lower() == view.schema:
        _leave_schema(connection, database, setting)
        view = replace(METRICS_DAILY, schema="main")
    found = find_relation(connection, view)
    if found is None:
        create_view(connection, view, is_lake=is_lake)
    elif found.kind == "table":
        raise foreign(found.kind, view)


def _leave_schema(connection: duckdb.DuckDBPyConnection, database: str, setting: str) -> None:
    """Remove the view, and its schema, from a file that had another name before."""
    schema = METRICS_DAILY.schema
    ((schemas,),) = connection.execute(
        "SELECT count(*) FROM duckdb_schemas() WHERE database_name = current_database() "
        f"AND lower(schema_name) = {literal(schema)}"
    ).fetchall()
    if not schemas:
        return
    others = ""
    found = find_relation(connection, METRICS_DAILY)
    if found and is_own_view(METRICS_DAILY, found):
        connection.execute(f"DROP VIEW {quote(database)}.{name_of(METRICS_DAILY)}")
        try:
            connection.execute(f"DROP SCHEMA {quote(database)}.{quote(schema)}")
        except duckdb.DependencyException as error:
            named = re.findall(r'^([\w ]+ ".*") depends on', str(error), re.MULTILINE)
            others = f" ({', '.join(named)})" if named else ""
        else:
            return
    raise ConfigError(
        setting,
        f"'{database}' has a schema '{schema}' of another program{others}, and DuckDB could not "
        f"tell '{schema}.table' from a table of the whole file. Choose another name for the file, "
        "or move its objects to another schema.",
    )
