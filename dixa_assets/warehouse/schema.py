"""Add columns to tables, and widen columns, to hold new values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dixa_assets.model.counts import Types
from dixa_assets.model.privacy import OWN_VALUE, FieldPolicy, Treatment
from dixa_assets.model.tables import (
    COLUMNS,
    LOADS,
    RECORD_VALUE,
    Column,
    Relation,
    Table,
    column_name,
    columns_by_source,
)
from dixa_assets.model.values import BIGINT, DOUBLE, EXACT_IN_DOUBLE, JSON, TIMESTAMPTZ, widest
from dixa_assets.warehouse.objects import (
    LOADED_NAMES,
    MAX_STATEMENTS,
    add_column,
    checkpoint,
    column_names_of,
    create_table,
    create_view,
    find_relation,
    foreign,
    is_own_view,
    save_columns,
    sql_type,
    write_comments,
)
from dixa_assets.warehouse.sql import Connection, Query, literal, name_of, quote, transaction

# Prefixes of a change's description if a column is new or removed; other changes widen a column.
NEW_COLUMN_PREFIX = "new column "
REMOVED_COLUMN_PREFIX = "removed column "
EXPECTED_CHANGES = (NEW_COLUMN_PREFIX, REMOVED_COLUMN_PREFIX)


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a relation needs before values of new types can be written.

    Attributes:
        columns: The columns that its table must have.
        known: The columns that its table has.
        changes: The differences between the two, in words.
        removed: The columns that the table has and must lose.
        is_table_current: True if neither the table nor its comment needs a change.
        is_view_current: True if the view that people query exists and has its comment.
    """

    columns: Sequence[Column]
    known: Sequence[Column]
    removed: Sequence[Column]
    changes: Sequence[str]
    is_table_current: bool
    is_view_current: bool


def plan_changes(connection: Connection, relation: Relation, seen: Types) -> Plan:
    """Plan the changes that values of the seen types need, without making them.

    Raises:
        ConfigError: Another program made a table or view with the name of the relation's table.
    """
    table, view = relation.stored_in, relation.table
    found = find_relation(connection, table)
    known, others = _columns_in(connection, table) if found and found.kind == "table" else ([], [])
    if found and not known:
        raise foreign(found.kind, table)
    removed = [column for column in known if is_outdated(relation.policy, column)]
    kept = [column for column in known if column not in removed]
    columns, changes = _fitting(connection, relation, seen, kept, others)
    for column in reversed(removed):
        reason = relation.policy.treatment(column.field or OWN_VALUE)
        changes.insert(0, f"{REMOVED_COLUMN_PREFIX}{column.name} ({reason})")
    shown = found if view is table else find_relation(connection, view)
    return Plan(
        columns,
        kept,
        removed,
        changes if known else [],
        is_table_current=columns == known and found is not None and found.comment == table.comment,
        is_view_current=view is table
        or (shown is not None and is_own_view(view, shown) and shown.comment == view.comment),
    )


def apply_plan(connection: Connection, relation: Relation, plan: Plan, *, is_lake: bool) -> None:
    """Make the changes of a plan, in transactions of its own."""
    if not plan.is_table_current:
        with transaction(connection):
            evolve(connection, relation.stored_in, plan, is_lake)
        checkpoint(connection, is_lake=is_lake)
    if not plan.is_view_current:
        conditions = [f"{name} = {literal(value)}" for name, value in relation.row_filter.items()]
        where = f"WHERE {' AND '.join(conditions)}"
        with transaction(connection):
            create_view(connection, relation.table, where, is_lake=is_lake)


def is_outdated(policy: FieldPolicy, column: Column) -> bool:
    """Whether a column holds values that are left out now, or that are treated otherwise now."""
    if not column.part:
        return False
    now = policy.treatment(column.field or OWN_VALUE)
    is_hashed = now is Treatment.HASHED
    was_hashed = column.treatment == Treatment.HASHED
    return not now.is_kept or is_hashed != was_hashed or (is_hashed and column.part == "label")


def evolve(connection: Connection, table: Table, plan: Plan, is_lake: bool) -> None:
    """Make the changes of a plan to its table."""
    for column in plan.removed:
        connection.execute(f"ALTER TABLE {name_of(table)} DROP COLUMN {quote(column.name)}")
    if plan.known:
        before = {column.name: column for column in plan.known}
        known = {*plan.known}
        added = [column for column in plan.columns if column.name not in before]
        if len(added) > MAX_STATEMENTS and not is_lake and _is_plain(connection, table):
            nulls = [f"NULL::{sql_type(each.type)} AS {quote(each.name)}" for each in added]
            relation, added, known = name_of(table), [], set()
            select = f"SELECT *, {', '.join(nulls)} FROM {relation}"
            connection.execute(f"CREATE OR REPLACE TABLE {relation} AS {select}")
        for column in added:
            add_column(connection, table, column)
        for column in plan.columns:
            old = before.get(column.name)
            if old and sql_type(old.type) != sql_type(column.type):
                _retype(connection, name_of(table), old, column, is_lake)
        new = [column for column in plan.columns if column not in known]
        write_comments(connection, "TABLE", table, new)
    else:
        create_table(connection, table, plan.columns)
        # If a person dropped a former table, the rows of these loads are gone.
        connection.execute(f"DELETE FROM {name_of(LOADS)} WHERE asset_key = ?", [table.key])
    if plan.removed and is_lake:
        # A lake's files keep a removed column until its rows are written again.
        connection.execute(f"UPDATE {name_of(table)} SET run_id = run_id")
    save_columns(connection, table, plan.columns)


def _is_plain(connection: Connection, table: Table) -> bool:
    """True if nobody gave the table an index or a constraint, which a replaced table would lose."""
    found = connection.execute(
        "SELECT (SELECT count(*) FROM duckdb_indexes() WHERE schema_name = $1 AND table_name = $2) "
        "+ (SELECT count(*) FROM duckdb_constraints() WHERE schema_name = $1 AND table_name = $2)",
        [table.schema, table.name],
    ).fetchone()
    return found == (0,)


def _retype(connection: Connection, relation: str, old: Column, new: Column, is_lake: bool) -> None:
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
    connection: Connection,
    relation: Relation,
    types: Types,
    known: Sequence[Column],
    others: Sequence[str],
) -> tuple[list[Column], list[str]]:
    """The columns that the table must have, and the differences from its columns, in words."""
    table, policy = relation.stored_in, relation.policy
    own = [column for column in table.columns if not column.part]
    head = [column for column in own if column.name not in LOADED_NAMES]
    tail = [column for column in own if column.name in LOADED_NAMES]
    present = {column.name for column in known}
    columns = [*known, *(column for column in head if column.name not in present)]
    places = {(c.field, c.part): place for place, c in enumerate(columns) if c.part}
    taken = {name.lower() for name in (*others, *(each.name for each in (*columns, *tail)))}
    declared = columns_by_source(table.columns)
    comments = {source: column.comment for source, column in declared.items()}
    comments[RECORD_VALUE.field, RECORD_VALUE.part] = RECORD_VALUE.comment
    changes: list[str] = []
    for source in dict.fromkeys(_in_order(types, declared)):
        seen = types.of.get(source)
        place = places.get(source)
        comment = comments.get(source, "")
        is_hashed = policy.treatment(source[0] or OWN_VALUE) is Treatment.HASHED
        mark = str(Treatment.HASHED) if is_hashed else ""
        if place is None:
            name = column_name(*source, taken)
            columns.append(Column(name, seen, comment, *source, mark))
            changes.append(f"{NEW_COLUMN_PREFIX}{name} ({sql_type(seen)})")
            continue
        old = columns[place]
        exact = source not in types.inexact and _is_exact(connection, table, old, seen)
        wider = widest(old.type, seen, exact=exact)
        columns[place] = Column(old.name, wider, comment or old.comment, *source, mark)
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


def _is_exact(connection: Connection, table: Table, column: Column, seen: str | None) -> bool:
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
        text = _instant_text(name)
    elif old == f"{TIMESTAMPTZ}[]":
        text = f"list_transform({name}, lambda each: {_instant_text('each')})"
    return f"to_json({text})" if column.type == JSON else f"CAST({text} AS {column.type})"


def _instant_text(name: str) -> str:
    """The SQL for an instant's text: the same text as that of an instant in a text column."""
    return f"replace(strftime({name}, '%Y-%m-%dT%H:%M:%S.%f+00:00'), '.000000', '')"


def _columns_in(connection: Connection, table: Table) -> tuple[list[Column], list[str]]:
    """The columns of a table that this project made, and the names of its other columns.

    A person may have dropped a field's column. A table that lacks another column is not ours.
    """
    registered = [
        Column(*row)
        for row in connection.execute(
            "SELECT column_name, type, comment, field, part, coalesce(treatment, '') "
            f"FROM {name_of(COLUMNS)} WHERE table_schema = ? AND table_name = ? ORDER BY rowid",
            [table.schema, table.name],
        ).fetchall()
    ]
    present = column_names_of(connection, table)
    known = [column for column in registered if column.name in present]
    is_own = all(column.part or column in known for column in registered)
    own = {column.name for column in known}
    return known if is_own else [], [name for name in present if name not in own]


def fields_of(query: Query) -> dict[str, set[str]]:
    """The fields that each record's table has columns for, by table."""
    found = query(
        "SELECT table_name, list(field) AS fields FROM dixa_catalogue.columns "
        "WHERE table_schema = 'dixa_records' AND part = 'value' AND field <> '' GROUP BY ALL"
    )
    return {row.table_name: set(row.fields) for row in found}
