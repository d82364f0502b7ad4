"""The result of a write, with a preview that identifies nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dixa_assets.model.privacy import looks_personal
from dixa_assets.model.tables import Column
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ
from dixa_assets.warehouse.sql import Connection, names_of

# A preview shows fields of these types only. A number may be a phone number.
PREVIEW_TYPES = frozenset({BOOLEAN, DATE, TIMESTAMPTZ})
PREVIEW_ROWS, PREVIEW_COLUMNS = 5, 12


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write.

    Attributes:
        schema_changes: The changes of the table, in words.
        columns: The columns of the table.
        preview: A few rows of a record: the row's own number, instants and booleans.
    """

    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]
    preview: Sequence[Mapping[str, Any]]


def read_preview(
    connection: Connection,
    columns: Sequence[Column],
    scope_sql: str,
    scope: Sequence[str],
) -> list[dict[str, Any]]:
    """The latest rows of a scope: a table and a condition with parameters."""
    shown = [*filter(_is_shown, columns)][:PREVIEW_COLUMNS]
    rows = connection.execute(
        f"SELECT {names_of(shown)} FROM {scope_sql} ORDER BY rowid DESC LIMIT {PREVIEW_ROWS}",
        scope,
    ).fetchall()
    return [{column.name: value for column, value in zip(shown, row, strict=True)} for row in rows]


def _is_shown(column: Column) -> bool:
    """Whether previews show a column: the row's own number, and fields that identify nobody."""
    if not column.field:
        return column.type in {*PREVIEW_TYPES, BIGINT, DOUBLE}
    return column.type in PREVIEW_TYPES and not looks_personal(column.field, column.comment)
