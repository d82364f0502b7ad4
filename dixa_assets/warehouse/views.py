"""Views of the project in a schema where other people may have views and tables too.

The comment of each relation of the project ends with a mark. A relation without the mark belongs
to somebody else, whatever its name: it is neither replaced nor dropped.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import duckdb

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import Table
from dixa_assets.warehouse.objects import checkpoint, ensure_table, replace_view
from dixa_assets.warehouse.sql import (
    Connection,
    insert_values,
    literal,
    name_of,
    names_of,
    quote,
    rows_of,
    transaction,
)

# The mark. A view's mark has a digest of the view, so that an equal view is not made again.
MARK = re.compile(r" \(dixa_assets(?: [0-9a-f]{8})?\)$")


@dataclass(frozen=True, slots=True)
class View:
    """A view: its description, its SELECT, and the views of its schema that it reads."""

    table: Table
    select: str
    reads: frozenset[str] = frozenset()

    @property
    def marked(self) -> Table:
        """The description with the mark."""
        content = f"{self.table}{self.select}"
        digest = sha256(content.encode()).hexdigest()[:8]
        return replace(self.table, comment=f"{self.table.comment} (dixa_assets {digest})")


def replace_views(
    connection: Connection, schema: str, views: Sequence[View], *, is_lake: bool
) -> dict[str, str]:
    """Make the views, in this order, and drop the project's other views in the schema.

    Returns:
        The views that could not be made, by name, with the reason.
    """
    comments = _comments(connection, schema)
    problems: dict[str, str] = {}
    is_stale = False
    for view in views:
        name, table = view.table.name, view.marked
        if name in comments and not MARK.search(comments[name]):
            problems[name] = f"another program made {schema}.{name}"
        elif lost := sorted(view.reads & problems.keys()):
            problems[name] = f"it reads {', '.join(lost)}"
        else:
            # DuckDB refuses a view if the types of a view that it reads have changed.
            is_stale |= comments.get(name) != table.comment
            try:
                if is_stale:
                    replace_view(connection, table, view.select, is_lake=is_lake)
            except duckdb.ProgrammingError as error:
                problems[name] = " ".join(str(error).split())
    wanted = {view.table.name for view in views}
    for found in rows_of(
        connection,
        "SELECT view_name AS name, comment FROM duckdb_views() "
        f"WHERE database_name = current_database() AND schema_name = {literal(schema)}",
    ):
        if found.name not in wanted and MARK.search(found.comment or ""):
            connection.execute(f"DROP VIEW {quote(schema)}.{quote(found.name)}")
    return problems


def replace_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    is_lake: bool,
) -> bool:
    """Replace all rows of a table, and create the table if it is missing.

    Returns:
        False if another program made the table. It then does not change.
    """
    marked = replace(table, comment=f"{table.comment} (dixa_assets)")
    is_own = MARK.search(_comments(connection, table.schema).get(table.name, "")) is not None
    try:
        with transaction(connection):
            is_new = ensure_table(connection, marked, is_own=is_own)
    except ConfigError:
        return False
    if is_new:
        checkpoint(connection, is_lake=is_lake)
    held = rows_of(connection, f"SELECT {names_of(table.columns)} FROM {name_of(table)}")
    if [row._asdict() for row in held] != [*rows]:
        with transaction(connection):
            connection.execute(f"DELETE FROM {name_of(table)}")
            if rows:
                insert_values(connection, table, rows)
    return True


def _comments(connection: Connection, schema: str) -> dict[str, str]:
    """The comments of all tables and views of a schema, by name in lower case."""
    found = rows_of(
        connection,
        " UNION ALL ".join(
            f"SELECT lower({kind}_name) AS name, coalesce(comment, '') AS comment "
            f"FROM duckdb_{kind}s() "
            f"WHERE database_name = current_database() AND schema_name = {literal(schema)}"
            for kind in ("table", "view")
        ),
    )
    return {row.name: row.comment for row in found}
