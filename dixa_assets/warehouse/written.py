"""The result of a write, with a preview that identifies nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from dixa_assets.model.privacy import looks_personal
from dixa_assets.model.tables import Column
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ
from dixa_assets.warehouse.sql import names_of

if TYPE_CHECKING:
    import pandas as pd

# A preview shows fields of these types only. A number may be a phone number.
PREVIEW_TYPES = frozenset({BOOLEAN, DATE, TIMESTAMPTZ})
PREVIEW_ROWS = 5


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write.

    Attributes:
        schema_changes: The changes of the table, in words.
        columns: The columns of the table.
        preview: A few of its rows: the row's own number, instants and booleans.
    """

    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]
    preview: "pd.DataFrame"


def read_preview(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    scope_sql: str,
    scope: Sequence[str],
) -> "pd.DataFrame":
    """The latest rows of a scope: a table and a condition with parameters."""
    return connection.execute(
        f"SELECT {names_of([*filter(_is_shown, columns)]) or 'NULL'} FROM {scope_sql} "
        f"ORDER BY rowid DESC LIMIT {PREVIEW_ROWS}",
        scope,
    ).df()


def _is_shown(column: Column) -> bool:
    """Whether previews show a column: the row's own number, and fields that identify nobody."""
    if not column.field:
        return column.type in {*PREVIEW_TYPES, BIGINT, DOUBLE}
    return column.type in PREVIEW_TYPES and not looks_personal(column.field, column.comment)
