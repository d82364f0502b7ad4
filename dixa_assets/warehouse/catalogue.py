"""The catalogue in the database: one row with the whole catalogue, and tables for people.

A database of an older version has only the tables. They lack the spelling of ids and the names of
filter tables: the next fetch finds both again.
"""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from dixa_assets.model.catalogue import (
    Aggregation,
    Catalogue,
    Change,
    Entry,
    Fact,
    FieldMetadata,
    FilterAttribute,
    Kind,
)
from dixa_assets.model.catalogue_rows import (
    AGGREGATIONS,
    API_FACTS,
    CHANGES,
    FIELD_TREATMENT,
    FIELDS,
    FILTERS,
    METRICS,
    RECORDS,
    RELATIONS,
)
from dixa_assets.model.tables import CATALOGUE_JSON, LOADED_COLUMNS, Table
from dixa_assets.warehouse.sql import Connection, Query, name_of, names_of

# The lists of an entry with the class and the table of their items. The last columns of a table
# name the item.
PARTS: dict[str, tuple[Any, Table]] = {
    "filters": (FilterAttribute, FILTERS),
    "aggregations": (Aggregation, AGGREGATIONS),
    "fields": (FieldMetadata, FIELDS),
}


def write_catalogue(connection: Connection, catalogue: Catalogue) -> None:
    """Replace the row with the whole catalogue, unless it is equal already."""
    text, table = catalogue.to_json(), name_of(CATALOGUE_JSON)
    if connection.execute(f"SELECT catalogue FROM {table}").fetchall() == [(text,)]:
        return
    connection.execute(f"DELETE FROM {table}")
    connection.execute(f"INSERT INTO {table} VALUES (?, ?)", [text, datetime.now(UTC)])


def read_catalogue(query: Query) -> Catalogue:
    """Read the catalogue that was written last; an empty one if none was."""
    found = query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'dixa_catalogue'")
    tables = {row.table_name for row in found}
    if CATALOGUE_JSON.name in tables:
        for row in query(f"SELECT catalogue FROM {name_of(CATALOGUE_JSON)}"):
            return Catalogue.from_json(row.catalogue)

    def rows_of(table: Table) -> list[list[Any]]:
        """The rows in the order in which they were written, with instants in ISO."""
        if table.name not in tables:
            return []
        newer = (*LOADED_COLUMNS, *FIELD_TREATMENT)
        names = names_of([column for column in table.columns if column not in newer])
        return [
            [value.isoformat() if isinstance(value, datetime) else value for value in row]
            for row in query(f"SELECT {names} FROM {name_of(table)} ORDER BY rowid")
        ]

    lists: dict[tuple[Kind, str], dict[str, Any]] = defaultdict(lambda: defaultdict(tuple))
    for name, (made, table) in PARTS.items():
        for kind, id_, _, about, *own in rows_of(table):
            lists[kind, id_][name] += (made(own[0], about or "", *map(bool, own[1:])),)
    for metric, record in rows_of(RELATIONS):
        lists["metric", metric]["related_ids"] += (record,)
        lists["record", record]["related_ids"] += (metric,)
    entries = [
        Entry(
            *(kind, id_, key.partition("/")[2], about or ""),
            first_seen=first_seen or "",
            retired_at=retired_at,
            **lists[kind, id_],
        )
        for table in (METRICS, RECORDS)
        for kind, id_, key, about, _, first_seen, retired_at, *_ in sorted(rows_of(table))
    ]
    changes = tuple(Change(*row) for row in rows_of(CHANGES))
    return Catalogue(tuple(entries), changes, facts=tuple(Fact(*row) for row in rows_of(API_FACTS)))
