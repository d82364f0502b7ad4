"""Create and comment tables and views, and widen columns to hold new values."""

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
    Query,
    insert_values,
    literal,
    name_of,
    names_of,
    quote,
    transaction,
)

# The names of the columns that every write fills itself.
LOADED_NAMES = tuple(column.name for column in LOADED_COLUMNS)
# Prefix of a change's description if the column is new; other changes widen a column.
NEW_COLUMN_PREFIX = "new column "
# The form of instants in a column that becomes text: as the API writes them.
_ISO = "%Y-%m-%dT%H:%M:%S.%f+00:00"


def sql_type(type_: str | None) -> str:
    """The type of a column in SQL: text if no value has shown it yet."""
    return type_ or VARCHAR


def create_table(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Create a table and its schema, with comments."""
    definitions = ", ".join(f"{quote(c.name)} {sql_type(c.type)}" for c in columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    connection.execute(f"CREATE TABLE {name_of(table)} ({definitions})")
    _comment(connection, "TABLE", table, columns)


def ensure_tables(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[Table], *, is_lake: bool
) -> None:
    """Create the project's own tables if they are missing, and add missing columns."""
    schemas = ", ".join({literal(table.schema): None for table in tables})
    found = connection.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
        f"WHERE database_name = current_database() AND schema_name IN ({schemas})"
    ).fetchall()
    present = set(found)
    missing = {
        table: [c for c in table.columns if (table.schema, table.name, c.name) not in present]
        for table in tables
    }
    changed = {table: columns for table, columns in missing.items() if columns}
    if not changed:
        return
    with transaction(connection):
        for table, columns in changed.items():
            if len(columns) == len(table.columns):
                create_table(connection, table, columns)
            else:
                for column in columns:
                    _add_column(connection, table, column)
                _comment(connection, "TABLE", table, columns)
        for table in changed:
            save_columns(connection, table, table.columns)
    _checkpoint(connection, is_lake)


def _checkpoint(connection: duckdb.DuckDBPyConnection, is_lake: bool) -> None:
    """Empty a file's log after a change of a table: DuckDB 1.5 may fail to replay the change."""
    if not is_lake:
        connection.execute("CHECKPOINT")


def _add_column(connection: duckdb.DuckDBPyConnection, table: Table, column: Column) -> None:
    definition = f"{quote(column.name)} {sql_type(column.type)}"
    connection.execute(f"ALTER TABLE {name_of(table)} ADD COLUMN {definition}")


def create_view(
    connection: duckdb.DuckDBPyConnection, view: Table, select: str, is_lake: bool
) -> None:
    """Create or replace a view and its schema, with comments."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(view.schema)}")
    connection.execute(f"CREATE OR REPLACE VIEW {name_of(view)} AS {select}")
    # A lake takes no comments on the columns of views.
    _comment(connection, "VIEW", view, () if is_lake else view.columns)


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
    """The comment of a table or view, empty if it has none; None if there is no such relation."""
    found = connection.execute(
        f"SELECT comment FROM duckdb_{kind}() WHERE schema_name = ? AND {kind[:-1]}_name = ?",
        [table.schema, table.name],
    ).fetchone()
    return (found[0] or "") if found else None


def ensure_daily_view(connection: duckdb.DuckDBPyConnection, *, is_lake: bool = False) -> None:
    """Create the view of all metrics, so that queries find it as `dixa.metrics_daily`.

    DuckDB names a database after its file. In `dixa.duckdb` a schema `dixa` would make every name
    `dixa.…` ambiguous, so the view is in the schema `main` there.
    """
    in_own_catalog = connection.execute(
        f"SELECT lower(current_database()) = {literal(METRICS_DAILY.schema)}"
    ).fetchone() == (True,)
    view = replace(METRICS_DAILY, schema="main") if in_own_catalog else METRICS_DAILY
    if in_own_catalog:
        # The file may have been renamed.
        connection.execute(f"DROP SCHEMA IF EXISTS {quote(METRICS_DAILY.schema)} CASCADE")
    found = connection.execute(
        "SELECT count(*) FROM duckdb_views() "
        f"WHERE schema_name = {literal(view.schema)} AND view_name = {literal(view.name)}"
    ).fetchone()
    if found == (0,):
        select = f"SELECT {names_of(view.columns)} FROM {name_of(METRIC_VALUES)}"
        with transaction(connection):
            create_view(connection, view, select, is_lake)


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a relation needs before values of new types can be written.

    Attributes:
        columns: The columns that its table must have.
        known: The columns that its table has.
        changes: The differences between the two, in words.
        is_table_current: True if neither the table nor its comment needs a change.
        is_view_current: True if the view that people query exists and has its comment.
    """

    columns: Sequence[Column]
    known: Sequence[Column]
    changes: Sequence[str]
    is_table_current: bool
    is_view_current: bool


def plan_changes(connection: duckdb.DuckDBPyConnection, relation: Relation, seen: Types) -> Plan:
    """Plan the changes that values of the seen types need, without making them."""
    table, view = relation.stored_in, relation.table
    known = _known_columns(connection, table)
    columns, changes = _fitting(connection, table, seen, known)
    return Plan(
        columns,
        known,
        changes if known else [],
        is_table_current=columns == known
        and _comment_of(connection, "tables", table) == table.comment,
        is_view_current=view is table or _comment_of(connection, "views", view) == view.comment,
    )


def apply_plan(
    connection: duckdb.DuckDBPyConnection, relation: Relation, plan: Plan, *, is_lake: bool
) -> None:
    """Make the changes of a plan, in transactions of its own."""
    if not plan.is_table_current:
        with transaction(connection):
            _evolve(connection, relation.stored_in, plan, is_lake)
        _checkpoint(connection, is_lake)
    if not plan.is_view_current:
        conditions = [f"{name} = {literal(value)}" for name, value in relation.row_filter.items()]
        names = names_of(relation.table.columns)
        select = (
            f"SELECT {names} FROM {name_of(relation.stored_in)} WHERE {' AND '.join(conditions)}"
        )
        with transaction(connection):
            create_view(connection, relation.table, select, is_lake)


def _evolve(connection: duckdb.DuckDBPyConnection, table: Table, plan: Plan, is_lake: bool) -> None:
    if plan.known:
        before = {column.name: column for column in plan.known}
        for column in plan.columns:
            old = before.get(column.name)
            if old is None:
                _add_column(connection, table, column)
            elif sql_type(old.type) != sql_type(column.type):
                _retype(connection, name_of(table), old, column, is_lake)
        _comment(connection, "TABLE", table, [c for c in plan.columns if c not in plan.known])
    else:
        create_table(connection, table, plan.columns)
    save_columns(connection, table, plan.columns)


def _retype(
    connection: duckdb.DuckDBPyConnection, relation: str, old: Column, new: Column, is_lake: bool
) -> None:
    """Change the type of a column, and convert its values."""
    name = quote(new.name)
    if not is_lake:
        converted = _converted(name, old.type, new)
        connection.execute(
            f"ALTER TABLE {relation} ALTER COLUMN {name} SET DATA TYPE {new.type} USING {converted}"
        )
        return
    # A lake can change few types in place, so a new column replaces the old one. The old one is
    # renamed, because a new list column cannot be renamed.
    before = quote(f"{new.name} as {sql_type(old.type)}")
    converted = _converted(before, old.type, new)
    connection.execute(f"ALTER TABLE {relation} RENAME COLUMN {name} TO {before}")
    connection.execute(f"ALTER TABLE {relation} ADD COLUMN {name} {new.type}")
    connection.execute(f"UPDATE {relation} SET {name} = {converted} WHERE {before} IS NOT NULL")
    connection.execute(f"ALTER TABLE {relation} DROP COLUMN {before}")


def _fitting(
    connection: duckdb.DuckDBPyConnection, table: Table, types: Types, known: Sequence[Column]
) -> tuple[list[Column], list[str]]:
    """The columns that the table must have, and the differences from its columns, in words."""
    own = [column for column in table.columns if not column.part]
    head = [column for column in own if column.name not in LOADED_NAMES]
    tail = [column for column in own if column.name in LOADED_NAMES]
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
            changes.append(f"{NEW_COLUMN_PREFIX}{name} ({sql_type(seen)})")
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
    """The sources in the order of columns: the row's value, then each field and its label."""
    fields = dict.fromkeys([name for name, _ in (*declared, *types.of)])
    for name in sorted(fields, key=lambda each: each != ""):
        for source in ((name, "value"), (name, "label")):
            if source in declared or source in types.of:
                yield source


def _is_exact(
    connection: duckdb.DuckDBPyConnection, table: Table, column: Column, seen: str | None
) -> bool:
    """True if a DOUBLE can hold every integer of the column exactly."""
    if column.type != BIGINT or seen != DOUBLE:
        return True
    found = connection.execute(
        f"SELECT count(*) FROM {name_of(table)} WHERE {quote(column.name)} NOT BETWEEN ? AND ?",
        [-EXACT_IN_DOUBLE, EXACT_IN_DOUBLE],
    ).fetchone()
    return found == (0,)


def _converted(name: str, old: str | None, column: Column) -> str:
    """The SQL that converts a column's values to its new type without loss."""
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
    """The fields that each record's table has columns for, by table."""
    found = query(
        "SELECT table_name, list(field) AS fields FROM dixa_catalogue.columns "
        "WHERE table_schema = 'dixa_records' AND part = 'value' AND field <> '' GROUP BY ALL"
    )
    return {row.table_name: set(row.fields) for row in found}


def save_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    """Write the sources of a table's columns."""
    connection.execute(
        f"DELETE FROM {name_of(COLUMNS)} WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    )
    insert_values(
        connection,
        COLUMNS,
        [
            {
                "table_schema": table.schema,
                "table_name": table.name,
                "column_name": column.name,
                "type": column.type,
                "comment": column.comment,
                "field": column.field,
                "part": column.part,
            }
            for column in columns
        ],
    )
