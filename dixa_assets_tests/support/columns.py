"""The names, contents and comments of columns of a table made by hand."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dixa_assets.model.tables import Table
from dixa_assets.model.values import Value
from dixa_assets.warehouse.sql import literal, name_of, quote
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets.warehouse.written import Written
from dixa_assets_tests.support.handmade import DAYS, load, record, selected

Rows = Sequence[Mapping[str, Value]]
TABLE = record()


def fresh(empty: Path) -> Warehouse:
    """A copy of the empty database; it replaces the previous copy."""
    return Warehouse(shutil.copy(empty, empty.with_name("copy.duckdb")))


def load_days(warehouse: Warehouse, table: Table, *days: Rows) -> Written:
    """Load one day after the other; the outcome of the last."""
    return [load(warehouse, table, day, rows) for day, rows in zip(DAYS, days, strict=False)][-1]


def read(warehouse: Warehouse, table: Table, field: str, part: str = "value") -> list[Any]:
    """The content of a field's column, as JSON has it, in the order of the staged rows."""
    return read_all(warehouse, table)[field, part]


def read_all(
    warehouse: Warehouse, table: Table, written: Written | None = None
) -> dict[tuple[str, str], list[Any]]:
    """The content of every column of the vendor's fields, by field and part."""
    names = (
        {(column.field, column.part): column.name for column in written.columns if column.part}
        if written
        else column_names(warehouse, table)
    )
    columns = ", ".join(f"coalesce(to_json({quote(name)})::VARCHAR, '')" for name in names.values())
    rows = selected(
        warehouse,
        f"SELECT {columns or 1} FROM {name_of(table)} ORDER BY partition_date, primary_timestamp",
    )
    return {
        source: [None if row[at] == "" else json.loads(row[at]) for row in rows]
        for at, source in enumerate(names)
    }


def column_names(warehouse: Warehouse, table: Table) -> dict[tuple[str, str], str]:
    """The column of each field and part, from `dixa_catalogue.columns`."""
    rows = selected(
        warehouse,
        "SELECT field, part, column_name FROM dixa_catalogue.columns "
        f"WHERE table_schema = {literal(table.schema)} AND table_name = {literal(table.name)} "
        "AND part <> ''",
    )
    found = {(field, part): name for field, part, name in rows}
    assert len(found) == len(rows), "a field has two columns"
    return found


def column_comments(warehouse: Warehouse, table: Table) -> dict[str, str]:
    """The comments of the columns of a table or view."""
    found = warehouse.query(
        "SELECT column_name, coalesce(comment, '') AS said FROM duckdb_columns() "
        "WHERE schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    )
    return dict(zip(found["column_name"], found["said"], strict=True))
