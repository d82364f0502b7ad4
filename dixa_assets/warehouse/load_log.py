"""The load log: what each load asked for, got and cost, and what later loads learn from it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from dixa_assets.model.counts import Counts, Usage, Volume
from dixa_assets.model.days import Window
from dixa_assets.model.tables import LOADS
from dixa_assets.staging import Staged
from dixa_assets.warehouse.sql import Query, marks, name_of, names_of

# The rows of a record's days are estimated from this many of its latest loads.
LOADS_THAT_TELL = 30


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were fetched together, and what is noted of them in `dixa_catalogue.loads`.

    They replace all rows of `days`, or of the whole table when there are none.
    """

    run_id: str
    started: float
    parts: Sequence[Staged]
    days: Sequence[Window] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Sequence[str] = ()
    reach: int = 1

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def usage(self) -> Usage:
        """What all parts have cost."""
        return sum((part.usage for part in self.parts), Usage())

    def by_day(self) -> Iterator[tuple[Window, Counts, Usage]]:
        """Each day with its counts; what the days have cost together is the first one's."""
        usage = self.usage
        for day in self.days:
            key = day.day.isoformat()
            yield day, sum((part.days[key] for part in self.parts), Counts()), usage
            usage = Usage()


def note(
    connection: duckdb.DuckDBPyConnection,
    asset_key: str,
    batches: Sequence[Batch],
    changes: Sequence[str],
) -> None:
    """Note the loads of an asset in place of what was noted of the same days."""
    rows = []
    for batch in batches:
        common = {
            "asset_key": asset_key,
            "seconds": time.monotonic() - batch.started,
            "filters": json.dumps({name: list(values) for name, values in batch.filters.items()}),
            "breakdowns": json.dumps(list(batch.breakdowns)),
            "reach": batch.reach,
            "schema_changes": "[]",
            "unknown_types": "{}",
            "loaded_at": datetime.now(UTC),
            "run_id": batch.run_id,
        }
        if not batch.days:
            rows.append(common | {"rows": batch.rows} | _cost(batch.usage))
        for day, counts, usage in batch.by_day():
            rows.append(
                common
                | {
                    "partition_date": day.day,
                    "interval_start": day.start,
                    "interval_end": day.end,
                    "timezone": day.timezone,
                    "rows": counts.rows,
                    "rows_outside_window": counts.outside_window,
                    "nulls": json.dumps(counts.nulls),
                }
                | _cost(usage)
            )
    rows[0]["schema_changes"] = json.dumps(list(changes))
    unknown = [part.unknown for batch in batches for part in batch.parts]
    rows[0]["unknown_types"] = json.dumps({k: v for each in unknown for k, v in each.items()})
    names = [column.name for column in LOADS.columns]
    days = [row.get("partition_date") for row in rows]
    connection.execute(
        f"DELETE FROM {name_of(LOADS)} WHERE asset_key = ? "
        f"AND (partition_date IS NULL AND ? OR partition_date IN ({marks(days)}))",
        [asset_key, None in days, *days],
    )
    connection.execute(
        f"INSERT INTO {name_of(LOADS)} ({names_of(LOADS.columns)}) VALUES "
        + ", ".join(f"({marks(names)})" for _ in rows),
        [row.get(name) for row in rows for name in names],
    )


def volumes(connection: duckdb.DuckDBPyConnection) -> dict[str, Volume]:
    """What the latest loads of each record brought, by asset key."""
    found = connection.execute(
        "SELECT asset_key, count(*) AS days, sum(rows)::BIGINT AS rows, "
        "bool_or(astray) AS astray, greatest(max(reach), 1) AS reach, "
        "coalesce(bool_or(reach = 0), false) AS was_cut "
        "FROM (SELECT *, bool_or(rows_outside_window > 0) "
        "OVER (PARTITION BY asset_key) AS astray FROM dixa_catalogue.loads "
        "WHERE partition_date IS NOT NULL AND asset_key LIKE 'dixa_records/%' "
        "QUALIFY row_number() OVER (PARTITION BY asset_key ORDER BY loaded_at DESC) "
        f"<= {LOADS_THAT_TELL}) GROUP BY asset_key"
    ).fetchall()
    return {
        key: Volume(days, rows, bool(astray or was_cut), reach, was_cut)
        for key, days, rows, astray, reach, was_cut in found
    }


def noted(query: Query) -> set[tuple[str, str]]:
    """Every load that is noted: asset key and day, the day empty for a whole table."""
    found = query(
        "SELECT asset_key, coalesce(partition_date::VARCHAR, '') AS day FROM dixa_catalogue.loads"
    )
    return {*zip(found.asset_key, found.day, strict=True)}


def unknown_types(query: Query) -> set[tuple[str, str, str]]:
    """Types of values that are not documented: in which asset, of which field."""
    found = query(
        "SELECT DISTINCT asset_key, unknown_types FROM dixa_catalogue.loads "
        "WHERE unknown_types <> '{}'"
    )
    return {
        (key, field, type_)
        for key, types in zip(found.asset_key, found.unknown_types, strict=True)
        for field, type_ in json.loads(types).items()
    }


def spent(query: Query) -> tuple[int, int]:
    """Requests that the loads of the last 24 hours sent, and how many of them were repeats."""
    found = query(
        "SELECT coalesce(sum(requests), 0)::BIGINT AS requests, "
        "coalesce(sum(retries), 0)::BIGINT AS retries FROM dixa_catalogue.loads "
        "WHERE loaded_at > now() - INTERVAL 1 DAY"
    )
    return int(found.requests[0]), int(found.retries[0])


def _cost(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in ("requests", "retries", "pages", "bytes")}
