"""Tables and views: create them, comment them, and tell them from those of other programs.

A database may hold objects of other programs, even with the names of own ones. They are never
changed. A table is this project's if `dixa_catalogue.columns` has its columns, a view if it has the
definition that every release wrote.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import duckdb

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import (
    COLUMNS,
    LOADED_COLUMNS,
    METRIC_VALUES,
    Column,
    Table,
    comment_of,
)
from dixa_assets.model.values import VARCHAR
from dixa_assets.warehouse.sql import insert_values, literal, name_of, names_of, quote

# The names of the columns that every write fills itself.
LOADED_NAMES = tuple(column.name for column in LOADED_COLUMNS)
# A view's definition, as DuckDB writes it and without quotes: columns, table, the metric.
_DEFINITION = re.compile(
    r".* AS (SELECT [^()']* FROM [^()']*?)(?: WHERE \(metric = '(?:[^']|'')*'\))?;", re.DOTALL
)


class Found(NamedTuple):
    """A table or view in the database."""

    kind: str
    comment: str
    sql: str


def find_relation(connection: duckdb.DuckDBPyConnection, table: Table) -> Found | None:
    """The table or view with a name, in any case, as SQL ignores case; None if there is none."""
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


def is_own_view(view: Table, found: Found) -> bool:
    """True if a relation is a view that this project created: of all metrics, or of one."""
    columns = ", ".join(column.name for column in view.columns)
    definition = _DEFINITION.fullmatch(found.sql.replace('"', ""))
    own = f"SELECT {columns} FROM {METRIC_VALUES.schema}.{METRIC_VALUES.name}"
    return found.kind == "view" and definition is not None and definition[1] == own


def foreign(kind: str, table: Table) -> ConfigError:
    """The error about a table or view that another program made under an own name."""
    return ConfigError(
        "duckdb_path",
        f"this project did not make the {kind} {table.schema}.{table.name} in the database, so it "
        "does not change it. Rename or drop it, or load into another file.",
    )


def indexes_on(connection: duckdb.DuckDBPyConnection, table: Table) -> str:
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


def create_table(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Create a table and its schema, with comments."""
    definitions = ", ".join(f"{quote(c.name)} {sql_type(c.type)}" for c in columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    connection.execute(f"CREATE TABLE {name_of(table)} ({definitions})")
    write_comments(connection, "TABLE", table, columns)


def add_column(connection: duckdb.DuckDBPyConnection, table: Table, column: Column) -> None:
    """Add a column to a table."""
    definition = f"{quote(column.name)} {sql_type(column.type)}"
    connection.execute(f"ALTER TABLE {name_of(table)} ADD COLUMN {definition}")


def create_view(
    connection: duckdb.DuckDBPyConnection, view: Table, where: str = "", *, is_lake: bool
) -> None:
    """Create a view of metric values, or replace one that this project made.

    Raises:
        ConfigError: Another program made a table or view of this name.
    """
    found = find_relation(connection, view)
    if found and not is_own_view(view, found):
        raise foreign(found.kind, view)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(view.schema)}")
    connection.execute(
        f"CREATE OR REPLACE VIEW {name_of(view)} AS "
        f"SELECT {names_of(view.columns)} FROM {name_of(METRIC_VALUES)} {where}"
    )
    # A lake takes no comments on the columns of views.
    write_comments(connection, "VIEW", view, () if is_lake else view.columns)


def write_comments(
    connection: duckdb.DuckDBPyConnection, kind: str, table: Table, columns: Sequence[Column]
) -> None:
    """Write the comments of a table or view and of some of its columns."""
    relation = name_of(table)
    connection.execute(f"COMMENT ON {kind} {relation} IS {literal(table.comment)}")
    for column in columns:
        connection.execute(
            f"COMMENT ON COLUMN {relation}.{quote(column.name)} IS {literal(comment_of(column))}"
        )


def save_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Write the sources of a table's columns."""
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
            }
            for column in columns
        ],
    )


def checkpoint(connection: duckdb.DuckDBPyConnection, *, is_lake: bool) -> None:
    """Empty a file's log after a change of a table: DuckDB 1.5 may fail to replay the change."""
    if not is_lake:
        connection.execute("CHECKPOINT")
