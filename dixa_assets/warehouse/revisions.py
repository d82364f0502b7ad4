"""Totals that a reload changed: the table `dixa_catalogue.revisions`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dixa_assets.model.tables import LOADS, METRIC_NAME, METRIC_VALUES, REVISIONS, Relation
from dixa_assets.warehouse.sql import Connection, insert_values, name_of, placeholders, rows_of

# Dixa may compute the last digits of an average differently each time.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a metric's loaded days: load by day, value by day, measure and status."""

    loads: dict[date, Any] = field(default_factory=dict)
    values: dict[tuple[date, str, str | None], float | None] = field(default_factory=dict)


def read_totals(connection: Connection, relation: Relation, days: Sequence[object]) -> Totals:
    """Read the totals of the days that are loaded; none for a record."""
    if relation.stored_in != METRIC_VALUES or not days:
        return Totals()
    scope = f"partition_date IN ({placeholders(days)})"
    found = rows_of(
        connection,
        "SELECT partition_date AS day, loaded_at, run_id "
        f"FROM {name_of(LOADS)} WHERE asset_key = ? AND {scope}",
        [relation.key, *days],
    )
    loads = {row.day: row for row in found}
    if not loads:
        return Totals()
    rows = rows_of(
        connection,
        f"SELECT partition_date AS day, measure, status, value FROM {name_of(METRIC_VALUES)} "
        f"WHERE metric = ? AND {scope} AND breakdown_attribute IS NULL AND aggregate IS NULL",
        [relation.row_filter[METRIC_NAME.name], *days],
    )
    # Another program may have removed loads, but not their values.
    totals = {(row.day, row.measure, row.status): row.value for row in rows if row.day in loads}
    return Totals(loads, totals)


def append_revisions(connection: Connection, relation: Relation, before: Totals) -> None:
    """Append the totals that differ from those before the reload."""
    if not before.loads:
        return
    after = read_totals(connection, relation, list(before.loads))
    rows = [
        {
            "metric": relation.row_filter[METRIC_NAME.name],
            "partition_date": day,
            "measure": measure,
            "status": status,
            "old_value": before.values.get((day, measure, status)),
            "new_value": after.values.get((day, measure, status)),
            "old_loaded_at": before.loads[day].loaded_at,
            "new_loaded_at": after.loads[day].loaded_at,
            "run_id": after.loads[day].run_id,
        }
        for day, measure, status in dict.fromkeys([*before.values, *after.values])
    ]
    changed = [row for row in rows if _differs(row["old_value"], row["new_value"])]
    if changed:
        insert_values(connection, REVISIONS, changed)


def _differs(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return not math.isclose(old, new, rel_tol=TOLERANCE)
