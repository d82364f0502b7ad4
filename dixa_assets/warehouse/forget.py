"""Blank a person's value in every table, and remember its digest."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dixa_assets.model.privacy import FieldPolicy, blanked, folded
from dixa_assets.model.tables import COLUMNS, ERASURES, OWNER
from dixa_assets.model.values import JSON, VARCHAR
from dixa_assets.warehouse.sql import (
    Connection,
    insert_values,
    name_of,
    placeholders,
    quote,
    rows_of,
)

# The project's own columns that are searched. The columns of API fields are searched too.
OWN_COLUMNS = ("breakdown_value", "breakdown_label", "filters")
TEXT = (VARCHAR, f"{VARCHAR}[]", JSON)


@dataclass(frozen=True, slots=True)
class Place:
    """A column in which a value was found, and in how many days and rows."""

    table: str
    column: str
    days: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Column:
    """A column in which a value is looked for."""

    name: str
    type: str
    is_personal: bool

    @property
    def as_json(self) -> str:
        """Its value as JSON, in SQL."""
        return f"CAST(to_json({quote(self.name)}) AS VARCHAR)"


def forget_value(
    connection: Connection,
    value: str,
    policy: FieldPolicy,
    *,
    dry_run: bool = False,
) -> list[Place]:
    """Blank a value in every table, with the other personal fields of its rows. Remember it.

    Args:
        connection: A connection inside a transaction.
        value: The value. Case and surrounding space do not count.
        policy: The key, and the personal fields.
        dry_run: True: only look, change nothing.

    Returns:
        The columns that have the value. Other personal columns of these rows are not listed.
    """
    wanted, hashed = folded(value), {policy.digest(value), policy.digest(value.strip())}
    places: list[Place] = []
    erased: dict[str | None, int] = {}
    for table, columns in _searched(connection, policy).items():
        found = {
            column: texts
            for column in columns
            if (
                texts := _texts(
                    connection, table, column, lambda text: folded(text) == wanted or text in hashed
                )
            )
        }
        for column, texts in found.items():
            places.append(_place(connection, table, column, texts))
        if found and not dry_run:
            erased[table.replace('"', "")] = _blank(connection, table, columns, found)
    if not dry_run:
        digest, now = policy.erasure_digest(value), datetime.now(UTC)
        insert_values(
            connection,
            ERASURES,
            [
                {"erased_at": now, "digest": digest, "table_name": table, "rows": rows}
                for table, rows in (erased or {None: 0}).items()
            ],
        )
        connection.execute(
            f"UPDATE {name_of(OWNER)} SET holds_removed = true, "
            f"erasures = (SELECT count(DISTINCT digest) FROM {name_of(ERASURES)})"
        )
    return places


def _searched(connection: Connection, policy: FieldPolicy) -> dict[str, list[_Column]]:
    """The columns in which a value is looked for, by table."""
    tables: dict[str, list[_Column]] = {}
    for row in rows_of(
        connection,
        "SELECT table_schema, table_name, column_name, data_type, field, c.comment, part "
        f"FROM {name_of(COLUMNS)} AS c JOIN duckdb_columns() AS d USING (table_name, column_name) "
        "WHERE schema_name = table_schema AND database_name = current_database() "
        "AND ((table_schema = 'dixa_records' AND part <> '') "
        "OR (table_schema = 'dixa_filters' AND column_name IN ('value', 'label')) "
        f"OR column_name IN ({placeholders(OWN_COLUMNS)})) ORDER BY ALL",
        OWN_COLUMNS,
    ):
        is_personal = row.part != "" and policy.is_personal(row.field, row.comment or "")
        if is_personal or row.data_type in TEXT:
            tables.setdefault(f"{quote(row.table_schema)}.{quote(row.table_name)}", []).append(
                _Column(row.column_name, row.data_type, is_personal)
            )
    return tables


def _texts(
    connection: Connection,
    table: str,
    column: _Column,
    is_forgotten: Callable[[str], bool],
) -> dict[str, str | None]:
    """The values of a column that contain a forgotten one, as JSON, with their replacements."""
    found: dict[str, str | None] = {}
    result = connection.execute(
        f"SELECT DISTINCT {column.as_json} FROM {table} WHERE {quote(column.name)} IS NOT NULL"
    )
    while rows := result.fetchmany(10_000):
        for (text,) in rows:
            content = json.loads(text)
            kept = blanked(content, is_forgotten, numbers=column.is_personal)
            if kept != content:
                found[text] = None if kept is None else json.dumps(kept, separators=(",", ":"))
    return found


def _place(connection: Connection, table: str, column: _Column, texts: Mapping[str, Any]) -> Place:
    days = "0" if table.startswith('"dixa_filters"') else "count(DISTINCT partition_date)"
    (row,) = rows_of(
        connection,
        f"SELECT count(*) AS rows, {days} AS days FROM {table} WHERE {_is_among(column)}",
        [[*texts]],
    )
    return Place(table.replace('"', ""), column.name, row.days, row.rows)


def _is_among(column: _Column) -> str:
    """The condition that a column has one of the values in a parameter."""
    return f"{column.as_json} IN (SELECT unnest(CAST(? AS VARCHAR[])))"


def _blank(
    connection: Connection,
    table: str,
    columns: Sequence[_Column],
    found: Mapping[_Column, Mapping[str, str | None]],
) -> int:
    """Blank the found values, and the personal columns of their rows. Return the number of rows."""
    condition = " OR ".join(map(_is_among, found))
    parameters = [[*texts] for texts in found.values()]
    (counted,) = rows_of(
        connection, f"SELECT count(*) AS rows FROM {table} WHERE {condition}", parameters
    )
    personal = [column for column in columns if column.is_personal]
    if personal:
        blanks = ", ".join(f"{quote(column.name)} = NULL" for column in personal)
        connection.execute(f"UPDATE {table} SET {blanks} WHERE {condition}", parameters)
    for column, texts in found.items():
        for text, kept in () if column in personal else texts.items():
            connection.execute(
                f"UPDATE {table} SET {quote(column.name)} = CAST(CAST(? AS JSON) AS {column.type}) "
                f"WHERE {column.as_json} = ?",
                [kept, text],
            )
    return int(counted.rows)
