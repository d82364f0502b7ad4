"""Tables on their way from one database into another, compared row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dixa_assets.errors import ConfigError, WarehouseError
from dixa_assets.model.tables import WAREHOUSE, Table
from dixa_assets.warehouse.engine import SCHEMAS
from dixa_assets.warehouse.sql import literal, marks, name_of, quote

# The name under which the file is attached.
SOURCE = "dixa move"


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator["Source"]:
    """The tables of a database file, to be taken into the connection's own database."""
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {quote(SOURCE)} (READ_ONLY)")
    except duckdb.Error as error:
        raise ConfigError("move", f"'{path}' cannot be read as a database ({error}).") from None
    try:
        source = Source(connection)
        if name_of(WAREHOUSE) not in source.names:
            raise ConfigError("move", f"'{path}' is no database of this project's.")
        yield source
    finally:
        connection.execute(f"DETACH {quote(SOURCE)}")


class Source:
    """A database file as another database sees it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        found = connection.execute(
            "SELECT schema_name, table_name, comment FROM duckdb_tables() "
            f"WHERE database_name = ? AND schema_name IN ({marks([*SCHEMAS])})",
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
        """Put a table of the file into the database, in place of what it has; its rows.

        Raises:
            WarehouseError: What was written is not what the file holds.
        """
        ask, theirs = self._connection.execute, f"{quote(SOURCE)}.{name}"
        schema, table, comment = self._tables[name]
        ask(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        ask(f"DROP TABLE IF EXISTS {name}")
        ask(f"CREATE TABLE {name} AS FROM {theirs}")
        ask(f"COMMENT ON TABLE {name} IS {literal(comment or '')}")
        comments = ask(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = ? "
            "AND schema_name = ? AND table_name = ? AND comment IS NOT NULL",
            [SOURCE, schema, table],
        ).fetchall()
        for column, about in comments:
            ask(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(about)}")
        (rows,) = ask(f"SELECT count(*) FROM {theirs}").fetchone() or (0,)
        # Scanned at both ends: a count may come from what is noted of files.
        for one, other in ((theirs, name), (name, theirs)):
            differing = ask(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})").fetchone()
            if differing != (0,):
                raise WarehouseError(
                    f"{name}: {differing and differing[0]} rows are not the same in the file and "
                    "in the database; nothing was moved."
                )
        return int(rows)

    def take_views(self) -> None:
        """Make the file's views anew."""
        ask = self._connection.execute
        views = ask(
            "SELECT schema_name, view_name, sql, comment FROM duckdb_views() "
            f"WHERE database_name = ? AND schema_name IN ({marks([*SCHEMAS])})",
            [SOURCE, *sorted(SCHEMAS)],
        ).fetchall()
        for schema, view, statement, comment in views:
            ask(f"DROP VIEW IF EXISTS {quote(schema)}.{quote(view)}")
            ask(statement)
            ask(f"COMMENT ON VIEW {quote(schema)}.{quote(view)} IS {literal(comment or '')}")
