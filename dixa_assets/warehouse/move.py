"""Copy the tables of a database file into another database, and compare every row."""

from pathlib import Path
from typing import Any

import duckdb

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.tables import MARTS, OWN_TABLES, OWNER, Table
from dixa_assets.warehouse.engine import SCHEMAS
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.objects import find_relation, foreign
from dixa_assets.warehouse.ownership import Ownership
from dixa_assets.warehouse.sql import Connection, literal, name_of, placeholders, quote, transaction
from dixa_assets.warehouse.views import MARK

# The name of the attached file.
SOURCE = "dixa move"
OWN_KEYS = {table.key for table in OWN_TABLES}


def copy_file(connection: Connection, path: Path, owner: Ownership) -> dict[str, int]:
    """Replace the tables and views of the connection's database with the tables of a file.

    Returns:
        The number of rows of each table, by its quoted name with its schema.

    Raises:
        ConfigError: The file is not a database of this project, or it has another zone, account or
            host.
        WarehouseError: The copied rows differ from those in the file.
    """
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {quote(SOURCE)} (READ_ONLY)")
    except duckdb.Error as error:
        raise to_own_error(
            error, f"'{path}' cannot be read as a database", setting="move"
        ) from None
    try:
        tables = [
            each
            for each in _relations(connection, "table", "table_oid")
            if each[0] != MARTS or not MARK.search(each[2] or "")
        ]
        if (OWNER.schema, OWNER.name) not in [table[:2] for table in tables]:
            raise ConfigError("move", f"'{path}' is not a database of this project.")
        found = connection.execute(
            f"SELECT timezone, account, host FROM {quote(SOURCE)}.{name_of(OWNER)}"
        ).fetchone()
        owner.verify_source(path, *(found or ("", "", "")))
        with transaction(connection):
            # Marts read each other; the caller makes them again.
            views = [each for each in _relations(connection, "view", "sql") if each[0] != MARTS]
            for schema, name, *_ in (*tables, *views):
                place = Table(schema, name, "", ())
                found = find_relation(connection, place)
                # The database has no loads, so no other table is ours.
                if found and place.key not in OWN_KEYS:
                    raise foreign(found.kind, place)
            copied = dict(_copy_table(connection, *table) for table in tables)
            for schema, view, comment, statement in views:
                name = f"{quote(schema)}.{quote(view)}"
                connection.execute(statement)
                connection.execute(f"COMMENT ON VIEW {name} IS {literal(comment or '')}")
        return copied
    finally:
        connection.execute(f"DETACH {quote(SOURCE)}")


def _relations(connection: Connection, kind: str, more: str) -> list[Any]:
    """The file's tables or views: schema, name, comment, and one more column."""
    return connection.execute(
        f"SELECT schema_name, {kind}_name, comment, {more} FROM duckdb_{kind}s() "
        f"WHERE database_name = ? AND schema_name IN ({placeholders([*SCHEMAS])}) ORDER BY ALL",
        [SOURCE, *sorted(SCHEMAS)],
    ).fetchall()


def _copy_table(
    connection: Connection, schema: str, table: str, comment: str | None, _: int
) -> tuple[str, int]:
    """Copy and compare a table. Return its name and its number of rows."""
    execute, name = connection.execute, f"{quote(schema)}.{quote(table)}"
    source = f"{quote(SOURCE)}.{name}"
    execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    execute(f"DROP TABLE IF EXISTS {name}")
    execute(f"CREATE TABLE {name} AS FROM {source}")
    execute(f"COMMENT ON TABLE {name} IS {literal(comment or '')}")
    comments = execute(
        "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = ? "
        "AND schema_name = ? AND table_name = ? AND comment IS NOT NULL",
        [SOURCE, schema, table],
    ).fetchall()
    for column, about in comments:
        execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(about)}")
    (rows,) = execute(f"SELECT count(*) FROM {source}").fetchone() or (0,)
    # Compare all rows: a count may come from the metadata of files.
    for one, other in ((source, name), (name, source)):
        differing = execute(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})").fetchone()
        if differing != (0,):
            raise WarehouseError(
                f"{name}: {differing and differing[0]} rows are not the same in the file and in "
                "the database; nothing was moved."
            )
    return name, int(rows)
