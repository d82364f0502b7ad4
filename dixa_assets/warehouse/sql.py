"""The pieces of SQL that every statement is made of, so that no text becomes part of one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import duckdb

from dixa_assets.model.tables import Column, Table

# DuckDB imports pandas when the first answer is read.
if TYPE_CHECKING:
    import pandas as pd


class Query(Protocol):
    """Answers queries, with instants in UTC."""

    def __call__(self, sql: str, parameters: Sequence[Any] = ()) -> "pd.DataFrame":
        """The result of one, its parameters bound."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where databases differ in the SQL that they take.

    Attributes:
        comments_view_columns: Columns of views take comments, as those of tables do.
        retypes_freely: A column can be given any type that its values convert to.
        checkpoints: CHECKPOINT empties the log, and does nothing else.
    """

    comments_view_columns: bool = True
    retypes_freely: bool = True
    checkpoints: bool = True


FILE = Dialect()
LAKE = Dialect(comments_view_columns=False, retypes_freely=False, checkpoints=False)


def quote(identifier: str) -> str:
    """An SQL identifier, whatever the text."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def name_of(table: Table) -> str:
    """The table's quoted name with its schema."""
    return f"{quote(table.schema)}.{quote(table.name)}"


def names_of(columns: Sequence[Column]) -> str:
    """The columns' quoted names, as a list in SQL."""
    return ", ".join(quote(column.name) for column in columns)


def marks(values: Sequence[Any]) -> str:
    """A parameter mark for each value."""
    return ", ".join("?" for _ in values)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the body's statements, or none of them."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT has already ended the transaction.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
