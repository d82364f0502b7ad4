"""The load log: the request, result and cost of the latest load of each partition."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from dixa_assets.model.counts import Counts, Usage
from dixa_assets.model.days import Day
from dixa_assets.model.tables import LOADS, PERIOD_VALUES
from dixa_assets.staging import Staged
from dixa_assets.warehouse.sql import Query, insert_values, name_of, placeholders


@dataclass(frozen=True, slots=True)
class Load:
    """The staged rows of a day or of a whole table, and what the load log notes about them.

    Args:
        run_id: The Dagster run.
        started: The beginning of the load, as `time.monotonic()`.
        parts: The staged rows: several files if a day was requested in parts.
        day: The day that the rows replace; None if they replace the whole table.
        filters: The filters of every request.
        breakdowns: The attributes by which a metric was broken down.
        periods: The weeks and months that were requested with the day. They have own parts.
    """

    run_id: str
    started: float
    parts: Sequence[Staged]
    day: Day | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Sequence[str] = ()
    periods: Sequence[str] = ()

    @property
    def counts(self) -> Counts:
        """The rows of all parts of the day."""
        own = (part for part in self.parts if part.table is not PERIOD_VALUES)
        return sum((part.counts for part in own), Counts())

    @property
    def usage(self) -> Usage:
        """The cost of all parts."""
        return sum((part.usage for part in self.parts), Usage())


def write_loads(
    connection: duckdb.DuckDBPyConnection,
    asset_key: str,
    loads: Sequence[Load],
    schema_changes: Sequence[str],
) -> None:
    """Replace the log's rows of an asset's loads; the first row gets the schema changes."""
    rows = [_row(asset_key, load) for load in loads]
    rows[0]["schema_changes"] = json.dumps(list(schema_changes))
    unknown = {
        name: type_ for load in loads for part in load.parts for name, type_ in part.unknown.items()
    }
    rows[0]["unknown_types"] = json.dumps(unknown)
    days = [row["partition_date"] for row in rows]
    connection.execute(
        f"DELETE FROM {name_of(LOADS)} WHERE asset_key = ? "
        f"AND (partition_date IS NULL AND ? OR partition_date IN ({placeholders(days)}))",
        [asset_key, None in days, *days],
    )
    insert_values(connection, LOADS, rows)


def loaded_partitions(query: Query) -> dict[tuple[str, str], frozenset[str]]:
    """The requested periods of every load, by asset key and day; '' for a whole table."""
    return {
        (row.asset_key, row.day): frozenset(json.loads(row.periods or "[]"))
        for row in query(
            "SELECT asset_key, coalesce(partition_date::VARCHAR, '') AS day, "
            "nullif(periods::VARCHAR, '[]') AS periods FROM dixa_catalogue.loads"
        )
    }


def unknown_types(query: Query) -> set[tuple[str, str, str]]:
    """Undocumented types of loaded values: asset key, field, type."""
    return {
        (row.asset_key, field, type_)
        for row in query(
            "SELECT DISTINCT asset_key, unknown_types FROM dixa_catalogue.loads "
            "WHERE unknown_types <> '{}'"
        )
        for field, type_ in json.loads(row.unknown_types).items()
    }


def requests_of_last_day(query: Query) -> tuple[int, int]:
    """Requests of the loads of the last 24 hours, and how many of them were retries."""
    (found,) = query(
        "SELECT coalesce(sum(requests), 0)::BIGINT AS requests, "
        "coalesce(sum(retries), 0)::BIGINT AS retries FROM dixa_catalogue.loads "
        "WHERE loaded_at > now() - INTERVAL 1 DAY"
    )
    return found.requests, found.retries


def _row(asset_key: str, load: Load) -> dict[str, Any]:
    counts, usage, day = load.counts, load.usage, load.day
    return {
        "asset_key": asset_key,
        "partition_date": day and day.date,
        "interval_start": day and day.period.start,
        "interval_end": day and day.period.end,
        "timezone": day and day.timezone,
        "rows": counts.rows,
        "rows_outside_window": counts.outside_day if day else None,
        "nulls": json.dumps(counts.nulls) if day else None,
        "requests": usage.requests,
        "retries": usage.retries,
        "pages": usage.pages,
        "bytes": usage.bytes,
        "seconds": time.monotonic() - load.started,
        "filters": json.dumps({name: list(values) for name, values in load.filters.items()}),
        "breakdowns": json.dumps(list(load.breakdowns)),
        "periods": json.dumps(list(load.periods)),
        "schema_changes": "[]",
        "unknown_types": "{}",
        "loaded_at": datetime.now(UTC),
        "run_id": load.run_id,
    }
