"""DuckDB's tables and views: made, commented, widened where the data ask for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from dixa_assets.model.counts import Types
from dixa_assets.model.tables import (
    COLUMNS,
    LOADED_COLUMNS,
    METRIC_VALUES,
    METRICS_DAILY,
    RECORD_VALUE,
    Column,
    Relation,
    Table,
    column_name,
    columns_by_source,
    comment_of,
)
from dixa_assets.model.values import (
    BIGINT,
    DOUBLE,
    EXACT_IN_DOUBLE,
    JSON,
    TIMESTAMPTZ,
    VARCHAR,
    widest,
)
from dixa_assets.warehouse.sql import (
    FILE,
    Dialect,
    Query,
    literal,
    marks,
    name_of,
    names_of,
    quote,
    transaction,
)

# The columns that every write fills itself.
TAIL = tuple(column.name for column in LOADED_COLUMNS)
# How the words for a change begin when a column is new; any other changed its type.
ADDED = "new column "
# How an instant is written when its column becomes text: as the API writes it.
_ISO = "%Y-%m-%dT%H:%M:%S.%f+00:00"


def physical(type_: str | None) -> str:
    """The type a column is stored in: text while it has none."""
    return type_ or VARCHAR


def create_table(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Make a table and its schema, with comments."""
    definitions = ", ".join(f"{quote(c.name)} {physical(c.type)}" for c in columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    connection.execute(f"CREATE TABLE {name_of(table)} ({definitions})")
    _comment(connection, "TABLE", table, columns)


def add_missing_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, dialect: Dialect = FILE
) -> None:
    """Give one of the project's own tables the columns that it has got since it was made."""
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns() "
        f"WHERE schema_name = {literal(table.schema)} AND table_name = {literal(table.name)}"
    ).fetchall()
    missing = [column for column in table.columns if (column.name,) not in found]
    if not missing:
        return
    with transaction(connection):
        for column in missing:
            definition = f"{quote(column.name)} {physical(column.type)}"
            connection.execute(f"ALTER TABLE {name_of(table)} ADD COLUMN {definition}")
        _comment(connection, "TABLE", table, missing)
        remember_columns(connection, table, table.columns)
    settle(connection, dialect)


def settle(connection: duckdb.DuckDBPyConnection, dialect: Dialect) -> None:
    """Leave no change of a table in the log: DuckDB 1.5 recovers more surely without."""
    if dialect.checkpoints:
        connection.execute("CHECKPOINT")


def _create_view(
    connection: duckdb.DuckDBPyConnection, view: Table, select: str, dialect: Dialect
) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(view.schema)}")
    connection.execute(f"CREATE OR REPLACE VIEW {name_of(view)} AS {select}")
    _comment(connection, "VIEW", view, view.columns if dialect.comments_view_columns else ())


def _comment(
    connection: duckdb.DuckDBPyConnection, kind: str, table: Table, columns: Sequence[Column]
) -> None:
    relation = name_of(table)
    connection.execute(f"COMMENT ON {kind} {relation} IS {literal(table.comment)}")
    for column in columns:
        connection.execute(
            f"COMMENT ON COLUMN {relation}.{quote(column.name)} IS {literal(comment_of(column))}"
        )


def _comment_of(connection: duckdb.DuckDBPyConnection, kind: str, table: Table) -> str | None:
    """The comment of a table or view, empty if it has none; None where there is no such thing."""
    found = connection.execute(
        f"SELECT comment FROM duckdb_{kind}() WHERE schema_name = ? AND {kind[:-1]}_name = ?",
        [table.schema, table.name],
    ).fetchone()
    return (found[0] or "") if found else None


def ensure_daily_view(connection: duckdb.DuckDBPyConnection, dialect: Dialect = FILE) -> None:
    """The view over all metrics, where `dixa.metrics_daily` finds it.

    A database file is a catalog named after it. In `dixa.duckdb` a schema `dixa` would make every
    `dixa.…` ambiguous, while the catalog's own schema answers to `dixa.metrics_daily` just so.
    """
    in_own_catalog = connection.execute(
        f"SELECT lower(current_database()) = {literal(METRICS_DAILY.schema)}"
    ).fetchone() == (True,)
    view = replace(METRICS_DAILY, schema="main") if in_own_catalog else METRICS_DAILY
    if in_own_catalog:
        # The file may have had another name before.
        connection.execute(f"DROP SCHEMA IF EXISTS {quote(METRICS_DAILY.schema)} CASCADE")
    found = connection.execute(
        "SELECT count(*) FROM duckdb_views() "
        f"WHERE schema_name = {literal(view.schema)} AND view_name = {literal(view.name)}"
    ).fetchone()
    if found == (0,):
        with transaction(connection):
            _create_view(
                connection,
                view,
                f"SELECT {names_of(view.columns)} FROM {name_of(METRIC_VALUES)}",
                dialect,
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a relation must have so that a write fits: columns, and those that its table has.

    `changes` says in words how they differ. `has_view` is false where the view that people query
    is missing or described otherwise.
    """

    columns: Sequence[Column]
    known: Sequence[Column]
    changes: Sequence[str]
    has_comment: bool
    has_view: bool

    @property
    def is_met(self) -> bool:
        """Whether there is nothing to do."""
        return self.has_table and self.has_view

    @property
    def has_table(self) -> bool:
        """Whether the table is as it must be."""
        return bool(self.known) and self.columns == self.known and self.has_comment


def planned(connection: duckdb.DuckDBPyConnection, relation: Relation, seen: Types) -> Plan:
    """Look at what it takes that values of the seen types fit; nothing is changed."""
    table, view = relation.stored_in, relation.table
    known = _known_columns(connection, table)
    columns, changes = _fitting(connection, table, seen, known)
    return Plan(
        columns,
        known,
        changes if known else [],
        has_comment=_comment_of(connection, "tables", table) == table.comment,
        has_view=view is table or _comment_of(connection, "views", view) == view.comment,
    )


def carry_out(
    connection: duckdb.DuckDBPyConnection, relation: Relation, plan: Plan, dialect: Dialect
) -> None:
    """Do what a plan says, in transactions of its own."""
    if not plan.has_table:
        with transaction(connection):
            _evolve(connection, relation.stored_in, plan, dialect)
        settle(connection, dialect)
    if not plan.has_view:
        own = " AND ".join(f"{name} = {literal(value)}" for name, value in relation.only.items())
        names = names_of(relation.table.columns)
        select = f"SELECT {names} FROM {name_of(relation.stored_in)} WHERE {own}"
        with transaction(connection):
            _create_view(connection, relation.table, select, dialect)


def _evolve(
    connection: duckdb.DuckDBPyConnection, table: Table, plan: Plan, dialect: Dialect
) -> None:
    if plan.known:
        before = {column.name: column for column in plan.known}
        relation = name_of(table)
        for column in plan.columns:
            old = before.get(column.name)
            if old is None:
                definition = f"{quote(column.name)} {physical(column.type)}"
                connection.execute(f"ALTER TABLE {relation} ADD COLUMN {definition}")
            elif physical(old.type) != physical(column.type):
                _retype(connection, relation, old, column, dialect)
        _comment(connection, "TABLE", table, [c for c in plan.columns if c not in plan.known])
    else:
        create_table(connection, table, plan.columns)
    remember_columns(connection, table, plan.columns)


def _retype(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    old: Column,
    new: Column,
    dialect: Dialect,
) -> None:
    """Give a column its new type, with its old values in it."""
    name = quote(new.name)
    if dialect.retypes_freely:
        converted = _converted(name, old.type, new)
        connection.execute(
            f"ALTER TABLE {relation} ALTER COLUMN {name} SET DATA TYPE {new.type} USING {converted}"
        )
        return
    # A column of that type takes its place. A new list cannot be renamed, so the old one is.
    before = quote(f"{new.name} as {physical(old.type)}")
    converted = _converted(before, old.type, new)
    connection.execute(f"ALTER TABLE {relation} RENAME COLUMN {name} TO {before}")
    connection.execute(f"ALTER TABLE {relation} ADD COLUMN {name} {new.type}")
    connection.execute(f"UPDATE {relation} SET {name} = {converted} WHERE {before} IS NOT NULL")
    connection.execute(f"ALTER TABLE {relation} DROP COLUMN {before}")


def _fitting(
    connection: duckdb.DuckDBPyConnection, table: Table, types: Types, known: Sequence[Column]
) -> tuple[list[Column], list[str]]:
    """The columns the table must have, and in words how that differs from those it has."""
    head = [column for column in table.columns if not column.part and column.name not in TAIL]
    tail = [column for column in table.columns if column.name in TAIL]
    columns = list(known) or head
    declared = columns_by_source(table.columns)
    comments = {source: column.comment for source, column in declared.items()}
    comments[RECORD_VALUE.field, RECORD_VALUE.part] = RECORD_VALUE.comment
    changes: list[str] = []
    for source in dict.fromkeys(_in_order(types, declared)):
        seen = types.of.get(source)
        taken = [column.name for column in (*columns, *tail)]
        old = columns_by_source(columns).get(source)
        comment = comments.get(source, "")
        if old is None:
            name = column_name(*source, taken)
            columns.append(Column(name, seen, comment, *source))
            changes.append(f"{ADDED}{name} ({physical(seen)})")
            continue
        exact = source not in types.inexact and _is_exact(connection, table, old, seen)
        wider = widest(old.type, seen, exact=exact)
        new = Column(old.name, wider, comment or old.comment, *source)
        columns[columns.index(old)] = new
        if old.type is not None and wider != old.type:
            changes.append(f"column {old.name} widened from {old.type} to {wider}")
    if not known:
        columns += tail
    return columns, changes


def _in_order(
    types: Types, declared: Mapping[tuple[str, str], Column]
) -> Iterator[tuple[str, str]]:
    """Sources in the order of a new table's columns: the value, each field with its label."""
    fields = dict.fromkeys([name for name, _ in (*declared, *types.of)])
    for name in sorted(fields, key=lambda each: each != ""):
        for source in ((name, "value"), (name, "label")):
            if source in declared or source in types.of:
                yield source


def _is_exact(
    connection: duckdb.DuckDBPyConnection, table: Table, column: Column, seen: str | None
) -> bool:
    """Whether every integer the column holds is the same number as a DOUBLE."""
    if column.type != BIGINT or seen != DOUBLE:
        return True
    found = connection.execute(
        f"SELECT count(*) FROM {name_of(table)} WHERE {quote(column.name)} NOT BETWEEN ? AND ?",
        [-EXACT_IN_DOUBLE, EXACT_IN_DOUBLE],
    ).fetchone()
    return found == (0,)


def _converted(name: str, old: str | None, column: Column) -> str:
    """The expression that turns a column's old values into its new type without loss."""
    if old is None:
        return f"NULL::{column.type}"
    text = name
    if old == TIMESTAMPTZ:
        text = f"strftime({name}, {literal(_ISO)})"
    elif old == f"{TIMESTAMPTZ}[]":
        text = f"list_transform({name}, lambda each: strftime(each, {literal(_ISO)}))"
    return f"to_json({text})" if column.type == JSON else f"CAST({text} AS {column.type})"


def _known_columns(connection: duckdb.DuckDBPyConnection, table: Table) -> list[Column]:
    rows = connection.execute(
        f"SELECT column_name, type, comment, field, part FROM {name_of(COLUMNS)} "
        "WHERE table_schema = ? AND table_name = ? ORDER BY rowid",
        [table.schema, table.name],
    ).fetchall()
    return [Column(*row) for row in rows]


def fields_of(query: Query) -> dict[str, set[str]]:
    """Per table of a record, the fields that it has columns for."""
    found = query(
        "SELECT table_name, list(field) AS fields FROM dixa_catalogue.columns "
        "WHERE table_schema = 'dixa_records' AND part = 'value' AND field <> '' GROUP BY ALL"
    )
    return {table: set(fields) for table, fields in found.values.tolist()}


def remember_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Note where each column of a table comes from."""
    connection.execute(
        f"DELETE FROM {name_of(COLUMNS)} WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    )
    rows = [(table.schema, table.name, c.name, c.type, c.comment, c.field, c.part) for c in columns]
    # One statement: in a lake, each would make a file.
    connection.execute(
        f"INSERT INTO {name_of(COLUMNS)} VALUES " + ", ".join(f"({marks(row)})" for row in rows),
        [value for row in rows for value in row],
    )
