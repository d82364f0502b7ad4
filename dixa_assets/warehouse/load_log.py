"""The load log: the request, result and cost of the latest load of each partition."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dixa_assets.model.counts import Counts, Usage
from dixa_assets.model.days import Day
from dixa_assets.model.tables import LOADS, PERIOD_VALUES
from dixa_assets.staging import Staged
from dixa_assets.warehouse.sql import Connection, Query, insert_values, name_of, placeholders


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
    filters: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
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
    connection: Connection,
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


class Held(NamedTuple):
    """The latest load of a partition in the database.

    Attributes:
        run_id: Its Dagster run.
        at: When it was written.
        periods: The weeks and months that were requested with it.
    """

    run_id: str
    at: float
    periods: frozenset[str] = frozenset()


class Inventory(NamedTuple):
    """The contents of a database.

    Attributes:
        database_id: Its id; empty before its first write, and if there is no database.
        loads: The latest load of each partition, by asset key and day. The day is empty for a whole
            table.
    """

    database_id: str
    loads: Mapping[str, Mapping[str, Held]]


def loads_by_asset(query: Query) -> dict[str, dict[str, Held]]:
    """The loads in the log, by asset key and day; the day is empty for a whole table.

    Loads into a table that a person dropped are left out.
    """
    found: dict[str, dict[str, Held]] = {}
    for row in query(
        "SELECT asset_key, coalesce(partition_date::VARCHAR, '') AS day, "
        "coalesce(run_id, '') AS run_id, epoch(loaded_at) AS at, periods FROM dixa_catalogue.loads "
        "WHERE starts_with(asset_key, 'dixa_metrics/') OR asset_key IN "
        "(SELECT schema_name || '/' || table_name FROM duckdb_tables() "
        "WHERE database_name = current_database())"
    ):
        periods = frozenset(json.loads(row.periods or "[]"))
        found.setdefault(row.asset_key, {})[row.day] = Held(row.run_id, row.at or 0.0, periods)
    return found


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
