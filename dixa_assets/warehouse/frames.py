"""DataFrames of tables and query results, with the types that an analyst expects.

Dagster reads them through `orchestration/frames.py`, notebooks through `reader.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from dixa_assets.errors import WarehouseError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.warehouse.catalogue import read_catalogue
from dixa_assets.warehouse.sql import Connection, quote, rows_of

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
# Runs a statement with its parameters.
Reader = Callable[[Connection, str, Sequence[Any]], T]
INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT"})


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows and columns of one table or view.

    Args:
        table: Schema and name, as in `dixa_records.ratings`.
        days: Local days, each as `2026-11-01`; None for all rows.
        columns: Names of columns; empty for all.
        where: An SQL condition; empty for all rows.
    """

    table: str
    days: Sequence[str] | None = None
    columns: Sequence[str] = ()
    where: str = ""

    def statement(self) -> tuple[str, list[Any]]:
        """The SELECT statement and its parameters."""
        schema, _, name = self.table.partition(".")
        conditions = [f"({self.where})"] if self.where else []
        parameters: list[Any] = []
        if self.days is not None:
            conditions.append("partition_date IN (SELECT unnest(?::DATE[]))")
            parameters.append([*self.days])
        return (
            f"SELECT {', '.join(map(quote, self.columns)) or '*'} "
            f"FROM {quote(schema)}.{quote(name)} WHERE {' AND '.join(conditions) or 'true'}",
            parameters,
        )


def read_frame(
    connection: Connection,
    sql: str,
    parameters: Sequence[Any] = (),
    *,
    timezone: str = "UTC",
) -> "pd.DataFrame":
    """Run a query and return a frame.

    Integers are `Int64` and booleans `boolean`, also without NULL, so that a type does not depend
    on the rows. Dates are `datetime64` without a zone, instants have the zone `timezone`, and lists
    are Python lists.
    """
    result = connection.execute(sql, [*parameters])
    types = [str(column[1]) for column in result.description or ()]
    frame: pd.DataFrame = result.df()
    for position, kind in enumerate(types):
        column = frame.iloc[:, position]
        if kind in INTEGERS:
            frame.isetitem(position, column.astype("Int64").array)
        elif kind == "BOOLEAN":
            frame.isetitem(position, column.astype("boolean").array)
        elif kind == "TIMESTAMP WITH TIME ZONE":
            frame.isetitem(position, column.dt.tz_convert(timezone))
        elif kind.endswith("[]"):
            frame.isetitem(position, column.map(_to_list).array)
    return frame


class Frames(ABC):
    """Reads a database as frames. `name` is the database in messages."""

    name: str

    @abstractmethod
    def run(self, read: Reader[T], sql: str, parameters: Sequence[Any] = ()) -> T:
        """Call `read` with a connection, the statement and its parameters."""

    def query(
        self, sql: str, parameters: Sequence[Any] = (), *, timezone: str = "UTC"
    ) -> "pd.DataFrame":
        """Run a query and return a frame, with instants in `timezone`."""
        return self.run(partial(read_frame, timezone=timezone), sql, parameters)

    def table(self, selection: Selection, *, timezone: str = "UTC") -> "pd.DataFrame":
        """Read rows of a table or view, with instants in `timezone`.

        Raises:
            WarehouseError: The table or a column does not exist, or the condition is wrong.
        """
        try:
            return self.query(*selection.statement(), timezone=timezone)
        except (duckdb.ProgrammingError, WarehouseError) as error:
            if isinstance(error, WarehouseError) and error.retryable:
                raise
            reason = str(error).partition("\n")[0]
            raise WarehouseError(
                f"{selection.table} cannot be read: {reason}. Is it loaded, and are `columns` and "
                "`where` right?"
            ) from None


class ReadCopy(Frames):
    """The read copy of a database. Reading it never blocks a load."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def run(self, read: Reader[T], sql: str, parameters: Sequence[Any] = ()) -> T:
        """Call `read` with a read-only connection."""
        with duckdb.connect(self.name, read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return read(connection, sql, parameters)

    def catalogue(self) -> Catalogue:
        """Read the catalogue at the time of the copy."""
        return read_catalogue(partial(self.run, rows_of))


def _to_list(value: Any) -> Any:
    """A DuckDB list as a Python list; NULL as None."""
    import numpy as np
    import pandas as pd

    if isinstance(value, np.ndarray):
        return [_to_list(item) for item in value.tolist()]
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
