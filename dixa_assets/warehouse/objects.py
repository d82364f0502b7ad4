"""Recognises the tables and views that this project made, among those of other programs.

`dixa_catalogue.columns` lists the tables. A view of metrics is recognised by its definition, a mart
by the mark in its comment (`views.py`). Nothing else is changed or dropped.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

import duckdb

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import (
    COLUMNS,
    LOADED_COLUMNS,
    LOADS,
    METRIC_VALUES,
    METRICS_DAILY,
    OWN_TABLES,
    PERIOD_VALUES,
    PERIOD_VIEWS,
    Column,
    Table,
    comment_of,
)
from dixa_assets.model.values import VARCHAR
from dixa_assets.warehouse.sql import (
    Connection,
    ambiguity,
    insert_values,
    literal,
    name_of,
    names_of,
    quote,
    transaction,
)

# DuckDB copies the whole table's description for each statement about a column. Above this many
# new columns, the table is replaced in one statement, and its columns get no comments.
MAX_STATEMENTS = 200
# The names of the columns that every write fills itself.
LOADED_NAMES = tuple(column.name for column in LOADED_COLUMNS)
_WEEK = f"{name_of(PERIOD_VALUES)} WHERE period = 'week'"

# The views of all metrics, each with its SELECT.
_VIEWS = {
    view: f"SELECT {names_of(view.columns)} FROM {rows}"
    for view, rows in (
        (METRICS_DAILY, name_of(METRIC_VALUES)),
        # If the first day of the week was changed, weeks with the former one are left out.
        (
            PERIOD_VIEWS["week"],
            f"{_WEEK} AND isodow(first_day) = "
            f"(SELECT arg_max(isodow(first_day), loaded_at) FROM {_WEEK})",
        ),
        (PERIOD_VIEWS["month"], f"{name_of(PERIOD_VALUES)} WHERE period = 'month'"),
    )
}
# Fails if an own column is missing. No statement for a complete database has parameters: the first
# one makes DuckDB import pandas, which takes longer than everything else, and a load waits for it.
_USE_ALL = "SELECT 1 FROM " + ", ".join(
    f"(SELECT {names_of(table.columns)} FROM {name_of(table)} LIMIT 0)"
    for table in (*OWN_TABLES, *_VIEWS)
)
# A view as DuckDB writes it, without quotes. The first group has its columns and its table.
_DEFINITION = re.compile(
    r".* AS (SELECT [^()']* FROM [^()']*?)(?: WHERE \(metric = '(?:[^']|'')*'\))?;", re.DOTALL
)


class Found(NamedTuple):
    """A table or view in the database."""

    kind: str
    comment: str
    sql: str


def find_relation(connection: Connection, table: Table) -> Found | None:
    """Find a table or view by name, ignoring case. Return None if there is none."""
    schema, name = literal(table.schema), literal(table.name)
    parts = (
        f"SELECT '{kind}' AS kind, coalesce(comment, '') AS comment, sql, {kind}_name AS name "
        f"FROM duckdb_{kind}s() WHERE database_name = current_database() "
        f"AND lower(schema_name) = lower({schema}) AND lower({kind}_name) = lower({name})"
        for kind in ("table", "view")
    )
    found = connection.execute(
        f"SELECT kind, comment, sql FROM ({' UNION ALL '.join(parts)}) ORDER BY name <> {name}"
    ).fetchone()
    return Found(*found) if found else None


def column_names_of(connection: Connection, table: Table) -> list[str]:
    """The names of the columns that a table has in the database."""
    described = connection.execute(f"SELECT * FROM {name_of(table)} LIMIT 0").description
    return [name for name, *_ in described or ()]


def is_own_view(view: Table, found: Found) -> bool:
    """True if this project created the view. It may show all metrics or one."""
    if found.kind == "table":
        return False
    for period, own_view in PERIOD_VIEWS.items():
        if replace(view, schema=own_view.schema) == own_view:
            # A lake writes the rest of the definition in another way.
            rows = f"from{PERIOD_VALUES.schema}.{PERIOD_VALUES.name}whereperiod='{period}'"
            return rows in _plain(found.sql).lower()
    columns = ", ".join(column.name for column in view.columns)
    definition = _DEFINITION.fullmatch(found.sql.replace('"', ""))
    own = f"SELECT {columns} FROM {METRIC_VALUES.schema}.{METRIC_VALUES.name}"
    return definition is not None and definition[1] == own


def _plain(sql: str) -> str:
    """A definition without the quotes, brackets and spaces that DuckDB changes."""
    return re.sub(r'["()\s]', "", sql)


def foreign(kind: str, table: Table) -> ConfigError:
    """The error about a table or view of another program that has an own name."""
    return ConfigError(
        "duckdb_path",
        f"this project did not make the {kind} {table.schema}.{table.name} in the database, so it "
        "does not change it. Rename or drop it, or load into another file.",
    )


def is_complete(connection: Connection) -> bool:
    """True if the database has every own column and every view of all metrics."""
    try:
        connection.execute(_USE_ALL)
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def ensure_own_tables(connection: Connection, *, is_lake: bool) -> None:
    """Create the own tables, own columns and views of all metrics that are missing.

    Raises:
        ConfigError: Another program made a table or view with the name of an own one.
    """
    if not is_complete(connection):
        with transaction(connection):
            _create_missing(connection, is_lake)
        checkpoint(connection, is_lake=is_lake)


@contextmanager
def with_own_tables(connection: Connection, *, is_lake: bool) -> Iterator[None]:
    """Inside the block, the database has every own table. Afterwards it is as before."""
    connection.execute("BEGIN")
    try:
        _create_missing(connection, is_lake)
        yield
    finally:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")


def _create_missing(connection: Connection, is_lake: bool) -> None:
    registered: set[tuple[str, str]] = set()
    # From DuckDB 2 on, a query that fails would end the transaction.
    found = find_relation(connection, COLUMNS)
    if found and {"table_schema", "table_name"} <= {*column_names_of(connection, COLUMNS)}:
        names = f"SELECT DISTINCT table_schema, table_name FROM {name_of(COLUMNS)}"
        registered = set(connection.execute(names).fetchall())
    # If a person dropped a former table, its rows are gone, and the load log must not list them.
    schema = literal(f"{METRIC_VALUES.schema}/")
    gone = {
        METRIC_VALUES: f"DELETE FROM {name_of(LOADS)} WHERE starts_with(asset_key, {schema})",
        PERIOD_VALUES: f"UPDATE {name_of(LOADS)} SET periods = NULL",
    }
    for table in OWN_TABLES:
        is_own = (table.schema, table.name) in registered
        if ensure_table(connection, table, is_own=is_own) and table in gone:
            connection.execute(gone[table])
    ensure_views(connection, is_lake=is_lake)


def ensure_table(connection: Connection, table: Table, *, is_own: bool = True) -> bool:
    """Create a table, or the columns that it lacks. Return True if the table is new.

    Raises:
        ConfigError: There is a view of this name, or a table of another program.
    """
    found = find_relation(connection, table)
    if found is None:
        create_table(connection, table, table.columns)
    elif found.kind == "view" or not is_own:
        raise foreign(found.kind, table)
    else:
        present = column_names_of(connection, table)
        missing = [column for column in table.columns if column.name not in present]
        if not missing:
            return False
        for column in missing:
            add_column(connection, table, column)
        write_comments(connection, "TABLE", table, missing)
    save_columns(connection, table, table.columns)
    return found is None


def ensure_views(
    connection: Connection, *, is_lake: bool = False, setting: str = "duckdb_path"
) -> None:
    """Create the views of all metrics, so that queries find them as `dixa.metrics_daily` and so on.

    DuckDB names a database after its file. In `dixa.duckdb` a schema `dixa` would make every name
    `dixa.…` ambiguous, so the views are in the schema `main` there.

    Raises:
        ConfigError: Another program's objects are in the way. It names the setting of the file.
    """
    ((database,),) = connection.execute("SELECT current_database()").fetchall()
    schema, other = METRICS_DAILY.schema, "main"
    if database.lower() == schema:
        _leave_schema(connection, database, setting)
        schema, other = other, schema
    for each, select in _VIEWS.items():
        view, former = replace(each, schema=schema), replace(each, schema=other)
        found = find_relation(connection, former)
        # The file had another name, or is the read copy of a file with one.
        if found and is_own_view(former, found):
            connection.execute(f"DROP VIEW {name_of(former)}")
        found = find_relation(connection, view)
        if found is None:
            replace_view(connection, view, select, is_lake=is_lake)
        elif found.kind == "table":
            raise foreign(found.kind, view)


def _leave_schema(connection: Connection, database: str, setting: str) -> None:
    """Drop the views and the schema that a former file name needed."""
    others, schema = "", METRICS_DAILY.schema
    same = f"database_name = current_database() AND lower(schema_name) = {literal(schema)}"
    if not connection.execute(f"FROM duckdb_schemas() WHERE {same}").fetchall():
        return
    own = [
        view
        for view in _VIEWS
        if (found := find_relation(connection, view))
        # A lake writes definitions in another way; in a new read copy, these names are ours.
        and (is_own_view(view, found) or setting == "read_copy_path" and found.kind == "view")
    ]
    for view in own:
        connection.execute(f"DROP VIEW {quote(database)}.{name_of(view)}")
    if own:
        try:
            # DuckDB 2 rejects the name with the database before it as ambiguous.
            connection.execute(f"DROP SCHEMA {quote(schema)}")
        except duckdb.DependencyException as error:
            named = re.findall(r'^([\w ]+ ".*") depends on', str(error), re.MULTILINE)
            others = f" ({', '.join(named)})"
        else:
            return
    raise ConfigError(
        setting,
        f"'{database}' has a schema '{schema}' of another program{others}, and "
        f"{ambiguity(schema)}. Choose another name for the file, or move the objects to another "
        "schema.",
    )


def indexes_on(connection: Connection, table: Table) -> str:
    """The indexes on a table, in words; empty if it has none."""
    found = connection.execute(
        "SELECT 'the index ' || schema_name || '.' || index_name FROM duckdb_indexes() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    ).fetchall()
    return ", ".join(name for (name,) in found)


def sql_type(type_: str | None) -> str:
    """The type of a column in SQL: text if no value has shown it yet."""
    return type_ or VARCHAR


def create_table(connection: Connection, table: Table, columns: Sequence[Column]) -> None:
    """Create a table and its schema, with comments."""
    definitions = ", ".join(f"{quote(c.name)} {sql_type(c.type)}" for c in columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    connection.execute(f"CREATE TABLE {name_of(table)} ({definitions})")
    write_comments(connection, "TABLE", table, columns)


def add_column(connection: Connection, table: Table, column: Column) -> None:
    """Add a column to a table."""
    definition = f"{quote(column.name)} {sql_type(column.type)}"
    connection.execute(f"ALTER TABLE {name_of(table)} ADD COLUMN {definition}")


def create_view(connection: Connection, view: Table, where: str = "", *, is_lake: bool) -> None:
    """Create a view of metric values, or replace one of this project.

    Raises:
        ConfigError: Another program made a table or view of this name.
    """
    found = find_relation(connection, view)
    if found and not is_own_view(view, found):
        raise foreign(found.kind, view)
    select = f"SELECT {names_of(view.columns)} FROM {name_of(METRIC_VALUES)} {where}"
    replace_view(connection, view, select, is_lake=is_lake)


def replace_view(connection: Connection, view: Table, select: str, *, is_lake: bool) -> None:
    """Create a view and its schema, with comments, or replace a view that is known to be own."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(view.schema)}")
    connection.execute(f"CREATE OR REPLACE VIEW {name_of(view)} AS {select}")
    # A lake takes no comments on the columns of views.
    write_comments(connection, "VIEW", view, () if is_lake else view.columns)


def write_comments(
    connection: Connection, kind: str, table: Table, columns: Sequence[Column]
) -> None:
    """Write the comments of a table or view and of some of its columns."""
    relation = name_of(table)
    connection.execute(f"COMMENT ON {kind} {relation} IS {literal(table.comment)}")
    comments = {column.name: text for column in columns if (text := comment_of(column))}
    for name, text in comments.items() if len(comments) <= MAX_STATEMENTS else ():
        connection.execute(f"COMMENT ON COLUMN {relation}.{quote(name)} IS {literal(text)}")


def save_columns(connection: Connection, table: Table, columns: Sequence[Column]) -> None:
    """Replace the description of a table's columns in `dixa_catalogue.columns`."""
    connection.execute(
        f"DELETE FROM {name_of(COLUMNS)} WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    )
    insert_values(
        connection,
        COLUMNS,
        [
            {
                "table_schema": table.schema,
                "table_name": table.name,
                "column_name": column.name,
                "type": column.type,
                "comment": column.comment,
                "field": column.field,
                "part": column.part,
                "treatment": column.treatment,
            }
            for column in columns
        ],
    )


def checkpoint(connection: Connection, *, is_lake: bool) -> None:
    """Empty a file's log after a change of a table: DuckDB 1.5 may fail to replay the change."""
    if not is_lake:
        connection.execute("CHECKPOINT")
