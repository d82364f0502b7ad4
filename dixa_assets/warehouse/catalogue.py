"""The catalogue as the warehouse's own tables have it, for whoever has no other."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dixa_assets.model.catalogue import (
    Aggregation,
    Catalogue,
    Change,
    Entry,
    Fact,
    FieldMetadata,
    FilterAttribute,
)
from dixa_assets.model.tables import (
    AGGREGATIONS,
    API_FACTS,
    CHANGES,
    FIELDS,
    FILTERS,
    METRICS,
    RECORDS,
    RELATIONS,
)
from dixa_assets.warehouse.sql import Query, name_of

if TYPE_CHECKING:
    import pandas as pd


def remembered(query: Query) -> Catalogue:
    """The entries and changes of the catalogue's tables; an empty one before their first load."""
    there = query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'dixa_catalogue'")
    tables = (METRICS, RECORDS, FILTERS, AGGREGATIONS, FIELDS, RELATIONS, CHANGES)
    if not {table.name for table in tables} <= set(there.table_name):
        return Catalogue()
    parts: dict[tuple[str, str], dict[str, tuple[Any, ...]]] = defaultdict(dict)

    def add(key: tuple[str, str], name: str, part: Any) -> None:
        parts[key][name] = (*parts[key].get(name, ()), part)

    for row in rows_of(query(f"SELECT * FROM {name_of(FILTERS)}")):
        attribute = FilterAttribute(row.filter_attribute, row.description or "")
        add((row.kind, row.id), "filters", attribute)
    for row in rows_of(query(f"SELECT * FROM {name_of(AGGREGATIONS)}")):
        measure = Aggregation(row.measure, row.description or "")
        add((row.kind, row.id), "aggregations", measure)
    for row in rows_of(query(f"SELECT * FROM {name_of(FIELDS)}")):
        field = FieldMetadata(row.field, row.description or "", bool(row.is_nullable))
        add((row.kind, row.id), "fields", field)
    for row in rows_of(query(f"SELECT metric, record FROM {name_of(RELATIONS)}")):
        add(("metric", row.metric), "related_ids", row.record)
        add(("record", row.record), "related_ids", row.metric)
    columns = "kind, id, asset_key, description, first_seen, retired_at"
    entries = [
        Entry(
            kind=row.kind,
            id=row.id,
            name=row.asset_key.partition("/")[2],
            description=row.description or "",
            first_seen=row.first_seen.isoformat() if row.first_seen else "",
            retired_at=row.retired_at.isoformat() if row.retired_at else None,
            **parts.get((row.kind, row.id), {}),  # type: ignore[arg-type]
        )
        for table in (METRICS, RECORDS)
        for row in rows_of(query(f"SELECT {columns} FROM {name_of(table)} ORDER BY id"))
    ]
    columns = "changed_at, kind, id, change, item, before, after"
    changes = [
        Change(row.changed_at.isoformat(), *row[1:])
        for row in rows_of(query(f"SELECT {columns} FROM {name_of(CHANGES)} ORDER BY rowid"))
    ]
    facts = []
    if API_FACTS.name in set(there.table_name):
        columns = "question, assumed, observed, verdict, evidence, since, setting, value"
        facts = [
            Fact(**row._asdict() | {"since": row.since.isoformat()})
            for row in rows_of(query(f"SELECT {columns} FROM {name_of(API_FACTS)}"))
        ]
    return Catalogue(tuple(entries), tuple(changes), facts=tuple(facts))


def rows_of(frame: "pd.DataFrame") -> Iterator[Any]:
    """The rows of an answer, with None for NULL."""
    return iter(frame.astype(object).where(frame.notna(), None).itertuples(index=False))
