"""The parts of SQL statements, queries that return rows, and transactions."""

from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

import duckdb

from dixa_assets.model.tables import Column, Table

# A connection to DuckDB.
Connection = duckdb.DuckDBPyConnection


class Query(Protocol):
    """Runs a query and returns its rows, with instants in UTC."""

    def __call__(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows, each a named tuple of its columns; NULL is None."""
        ...


def quote(identifier: str) -> str:
    """An SQL identifier. The text may hold any character."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def name_of(table: Table) -> str:
    """The table's quoted name with its schema."""
    return f"{quote(table.schema)}.{quote(table.name)}"


def names_of(columns: Sequence[Column]) -> str:
    """The columns' quoted names, separated by commas."""
    return ", ".join(quote(column.name) for column in columns)


def ambiguity(schema: str) -> str:
    """Why a database and a schema in it cannot have the same name, in words."""
    return f"DuckDB could not tell '{schema}.table' from a table of the whole file"


def placeholders(values: Sequence[Any]) -> str:
    """A `?` for each value, separated by commas."""
    return ", ".join("?" for _ in values)


def rows_of(connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """The rows of a query, each a named tuple of its columns."""
    # Parameters make DuckDB import pandas, even an empty list of them.
    result = connection.execute(sql, list(parameters)) if parameters else connection.execute(sql)
    row = _row_type(tuple(column[0] for column in result.description or ()))
    return [row._make(values) for values in result.fetchall()]


def insert_values(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with equal columns in one statement: in a lake, each statement writes a file."""
    names = ", ".join(map(quote, rows[0]))
    connection.execute(
        f"INSERT INTO {name_of(table)} ({names}) VALUES "
        + ", ".join(f"({placeholders([*row])})" for row in rows),
        [value for row in rows for value in row.values()],
    )


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit all statements of the body, or none of them."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT has already ended the transaction.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


@lru_cache(1000)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)  # noqa: PYI024
