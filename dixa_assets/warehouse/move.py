"""Copy the tables of a database file into another database, and compare every row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.tables import OWNER, Table
from dixa_assets.warehouse.engine import SCHEMAS
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.sql import literal, name_of, placeholders, quote

# The name of the attached file.
SOURCE = "dixa move"


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator["Source"]:
    """The tables of a database file, to copy into the connection's database.

    Raises:
        ConfigError: The file is not one of this project's.
    """
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {quote(SOURCE)} (READ_ONLY)")
    except duckdb.Error as error:
        raise to_own_error(
            error, f"'{path}' cannot be read as a database", setting="move"
        ) from None
    try:
        source = Source(connection)
        if name_of(OWNER) not in source.names:
            raise ConfigError("move", f"'{path}' is not a database of this project.")
        yield source
    finally:
        connection.execute(f"DETACH {quote(SOURCE)}")


class Source:
    """An attached database file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        found = connection.execute(
            "SELECT schema_name, table_name, comment FROM duckdb_tables() "
            f"WHERE database_name = ? AND schema_name IN ({placeholders([*SCHEMAS])})",
            [SOURCE, *sorted(SCHEMAS)],
        ).fetchall()
        self._tables = {
            f"{quote(schema)}.{quote(table)}": (schema, table, comment)
            for schema, table, comment in sorted(found)
        }
        self.names = list(self._tables)

    def name_of(self, table: Table) -> str:
        """The quoted name of a table in the file."""
        return f"{quote(SOURCE)}.{name_of(table)}"

    def take(self, name: str) -> int:
        """Replace a table of the database by that of the file; its number of rows.

        Raises:
            WarehouseError: The rows in the database differ from those in the file.
        """
        execute, theirs = self._connection.execute, f"{quote(SOURCE)}.{name}"
        schema, table, comment = self._tables[name]
        execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        execute(f"DROP TABLE IF EXISTS {name}")
        execute(f"CREATE TABLE {name} AS FROM {theirs}")
        execute(f"COMMENT ON TABLE {name} IS {literal(comment or '')}")
        comments = execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = ? "
            "AND schema_name = ? AND table_name = ? AND comment IS NOT NULL",
            [SOURCE, schema, table],
        ).fetchall()
        for column, about in comments:
            execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(about)}")
        (rows,) = execute(f"SELECT count(*) FROM {theirs}").fetchone() or (0,)
        # Compare all rows: a count may come from the metadata of files.
        for one, other in ((theirs, name), (name, theirs)):
            differing = execute(
                f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})"
            ).fetchone()
            if differing != (0,):
                raise WarehouseError(
                    f"{name}: {differing and differing[0]} rows are not the same in the file and "
                    "in the database; nothing was moved."
                )
        return int(rows)

    def take_views(self) -> None:
        """Replace the views of the database by those of the file."""
        execute = self._connection.execute
        views = execute(
            "SELECT schema_name, view_name, sql, comment FROM duckdb_views() "
            f"WHERE database_name = ? AND schema_name IN ({placeholders([*SCHEMAS])})",
            [SOURCE, *sorted(SCHEMAS)],
        ).fetchall()
        for schema, view, statement, comment in views:
            execute(f"DROP VIEW IF EXISTS {quote(schema)}.{quote(view)}")
            execute(statement)
            execute(f"COMMENT ON VIEW {quote(schema)}.{quote(view)} IS {literal(comment or '')}")
