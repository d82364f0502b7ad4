"""Removes values that the settings now leave out, and days that are too old."""

from datetime import date

from dixa_assets.model.counts import Types
from dixa_assets.model.tables import Relation
from dixa_assets.warehouse.privacy import note_removed, remove_other_rows
from dixa_assets.warehouse.schema import REMOVED_COLUMN_PREFIX, evolve, plan_changes
from dixa_assets.warehouse.sql import quote
from dixa_assets.warehouse.warehouse import Warehouse


def remove_left_out_values(
    warehouse: Warehouse, relation: Relation, *, dry_run: bool = False
) -> list[str]:
    """Remove what the settings now leave out from all days of a table, and log it.

    Returns:
        The changes in words. With `dry_run`, none of them is made.
    """
    with warehouse.changing(dry_run=dry_run) as connection:
        plan = plan_changes(connection, relation, Types())
        changes = [text for text in plan.changes if text.startswith(REMOVED_COLUMN_PREFIX)]
        changes += remove_other_rows(connection, relation, dry_run=dry_run)
        if dry_run or not changes:
            return changes
        evolve(connection, relation.stored_in, plan, warehouse.is_lake)
        note_removed(connection)
        connection.execute(
            "UPDATE dixa_catalogue.loads SET schema_changes = "
            "to_json(list_concat(CAST(schema_changes AS VARCHAR[]), CAST($1 AS VARCHAR[]))) "
            "WHERE asset_key = $2 AND loaded_at = (SELECT max(loaded_at) "
            "FROM dixa_catalogue.loads WHERE asset_key = $2)",
            [changes, relation.key],
        )
    return changes


def remove_days(warehouse: Warehouse, before: date) -> int:
    """Delete rows of records older than a day, and mark these days in the load log.

    Each table is changed in one transaction.

    Returns:
        The number of removed days of all records.
    """
    with warehouse.reading() as query:
        old = query(
            "SELECT asset_key, count(*) AS days FROM dixa_catalogue.loads WHERE partition_date < ? "
            "AND removed_at IS NULL AND starts_with(asset_key, 'dixa_records/') GROUP BY ALL",
            [before],
        )
    for row in old:
        schema, _, table = row.asset_key.partition("/")
        with warehouse.changing() as connection:
            connection.execute(
                f"DELETE FROM {quote(schema)}.{quote(table)} WHERE partition_date < ?", [before]
            )
            connection.execute(
                "UPDATE dixa_catalogue.loads SET removed_at = now(), nulls = '{}', "
                "rows_outside_window = 0 WHERE asset_key = ? AND partition_date < ? "
                "AND removed_at IS NULL",
                [row.asset_key, before],
            )
            note_removed(connection, days=True)
    return sum(row.days for row in old)
