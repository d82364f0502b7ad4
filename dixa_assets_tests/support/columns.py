"""What the columns of a table made by hand are called, hold and say of themselves."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dixa_assets.model.tables import Table
from dixa_assets.model.values import Value
from dixa_assets.warehouse.sql import literal, name_of, quote
from dixa_assets.warehouse.warehouse import Warehouse, Written
from dixa_assets_tests.support.handmade import DAYS, load, record, selected
from dixa_assets_tests.support.simulator import COPENHAGEN

Rows = Sequence[Mapping[str, Value]]
TABLE = record()


def fresh(empty: Path) -> Warehouse:
    """A copy of the empty database, in the place of the one before."""
    return Warehouse(shutil.copy(empty, empty.with_name("copy.duckdb")), timezone=COPENHAGEN)


def load_days(warehouse: Warehouse, table: Table, *days: Rows) -> Written:
    """Load one day after the other; the last one's outcome."""
    return [load(warehouse, table, day, rows) for day, rows in zip(DAYS, days, strict=False)][-1]


def read(warehouse: Warehouse, table: Table, field: str, part: str = "value") -> list[Any]:
    """What the column of a field holds, as JSON has it, in the order the rows were staged."""
    return read_all(warehouse, table)[field, part]


def read_all(
    warehouse: Warehouse, table: Table, written: Written | None = None
) -> dict[tuple[str, str], list[Any]]:
    """What every column of the vendor's holds, by field and part."""
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
    """The column of each field and part, as the catalogue's table of columns tells."""
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
    """Comments of the columns of a table or view."""
    found = warehouse.query(
        "SELECT column_name, coalesce(comment, '') AS said FROM duckdb_columns() "
        "WHERE schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    )
    return dict(zip(found["column_name"], found["said"], strict=True))
