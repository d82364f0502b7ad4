"""The catalogue in the database: one row with all of it, and tables for people.

A database of an older version has the tables alone. They do not hold everything, but enough that
no metric, record or filter attribute changes its table.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import duckdb

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
from dixa_assets.model.merge import name_filters
from dixa_assets.model.tables import (
    AGGREGATIONS,
    API_FACTS,
    CATALOGUE_JSON,
    CHANGES,
    FIELDS,
    FILTERS,
    METRICS,
    RECORDS,
    RELATIONS,
    Table,
    filter_attribute,
)
from dixa_assets.warehouse.sql import Query, name_of

Key = tuple[Kind, str]
Parts = dict[Key, dict[str, tuple[Any, ...]]]


def write_catalogue(connection: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
    """Replace the row with the whole catalogue, unless it is equal already."""
    text, table = catalogue.to_json(), name_of(CATALOGUE_JSON)
    if connection.execute(f"SELECT catalogue FROM {table}").fetchall() == [(text,)]:
        return
    connection.execute(f"DELETE FROM {table}")
    connection.execute(f"INSERT INTO {table} VALUES (?, ?)", [text, datetime.now(UTC)])


def read_catalogue(query: Query) -> Catalogue:
    """The catalogue as it was last written; an empty one if it never was."""
    found = query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'dixa_catalogue'")
    tables = {row.table_name for row in found}
    if CATALOGUE_JSON.name in tables:
        for row in query(f"SELECT catalogue FROM {name_of(CATALOGUE_JSON)}"):
            return Catalogue.from_json(row.catalogue)
    needed = (METRICS, RECORDS, FILTERS, AGGREGATIONS, FIELDS, RELATIONS, CHANGES)
    if not {table.name for table in needed} <= tables:
        return Catalogue()
    changes = _changes(query)
    entries = _entries(query, _parts(query), _spellings(changes))
    facts = _facts(query) if API_FACTS.name in tables else ()
    return Catalogue(entries, changes, name_filters(entries, _filter_names(query)), facts)


def _entries(query: Query, parts: Parts, spellings: dict[Key, str]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            kind=row.kind,
            id=row.id,
            name=row.asset_key.partition("/")[2],
            description=row.description or "",
            first_seen=row.first_seen.isoformat() if row.first_seen else "",
            retired_at=row.retired_at.isoformat() if row.retired_at else None,
            spelling=spellings.get((row.kind, row.id), ""),
            **parts.get((row.kind, row.id), {}),
        )
        for table in (METRICS, RECORDS)
        for row in sorted(_rows(query, table), key=lambda row: row.id)
    )


def _parts(query: Query) -> Parts:
    """Filters, aggregations, fields and related ids, by entry."""
    parts: Parts = defaultdict(dict)

    def add(kind: Kind, id_: str, name: str, part: Any) -> None:
        parts[kind, id_][name] = (*parts[kind, id_].get(name, ()), part)

    for row in _rows(query, FILTERS):
        attribute = FilterAttribute(row.filter_attribute, row.description or "")
        add(row.kind, row.id, "filters", attribute)
    for row in _rows(query, AGGREGATIONS):
        measure = Aggregation(row.measure, row.description or "")
        add(row.kind, row.id, "aggregations", measure)
    for row in _rows(query, FIELDS):
        field = FieldMetadata(row.field, row.description or "", bool(row.is_nullable))
        add(row.kind, row.id, "fields", field)
    for row in _rows(query, RELATIONS):
        add("metric", row.metric, "related_ids", row.record)
        add("record", row.record, "related_ids", row.metric)
    return parts


def _changes(query: Query) -> tuple[Change, ...]:
    return tuple(
        Change(
            row.changed_at.isoformat(),
            row.kind,
            row.id,
            row.change,
            row.item,
            row.before,
            row.after,
        )
        for row in _rows(query, CHANGES)
    )


def _spellings(changes: tuple[Change, ...]) -> dict[Key, str]:
    """The ids that Dixa now writes in other capitals, by entry."""
    latest = {
        (each.kind, each.id): json.loads(each.after)
        for each in changes
        if each.change == "id changed" and each.after
    }
    return {key: spelling for key, spelling in latest.items() if spelling != key[1]}


def _facts(query: Query) -> tuple[Fact, ...]:
    return tuple(
        Fact(
            row.question,
            row.assumed,
            row.observed,
            row.verdict,
            row.evidence,
            row.since.isoformat(),
            row.setting,
            row.value,
        )
        for row in _rows(query, API_FACTS)
    )


def _filter_names(query: Query) -> dict[str, str]:
    """The tables of filter attributes, oldest first; a table's comment names its attribute."""
    found = query(
        "SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'dixa_filters' "
        "ORDER BY table_oid"
    )
    named = {filter_attribute(row.comment or ""): row.table_name for row in found}
    return {attribute: name for attribute, name in named.items() if attribute is not None}


def _rows(query: Query, table: Table) -> list[Any]:
    """The rows of a table in the order in which they were written."""
    return query(f"SELECT * FROM {name_of(table)} ORDER BY rowid")
