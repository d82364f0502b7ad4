"""The rows of a day in the simulator and in a database, in the same form.

A row is the JSON of its columns without those that are NULL and without the loader's own.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from dixa_assets.component import DixaAnalytics
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.scenario import midnight
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Json

# An asset's key as `schema/name`, and a day as text.
Partition = tuple[str, str]
# The table of weeks and months.
PERIODS = "dixa_metrics/period_values"
Rows = Counter[str]


def assert_equal(
    analytics: DixaAnalytics, world: World, *keys: str, days: Iterable[date | str]
) -> None:
    """Each of these days has all rows of the simulator and no other."""
    found = rows_in(analytics.duckdb_path, *keys)
    for key in keys:
        for day in map(str, days := [*days]):
            expected = rows_of(world, key, day, analytics.timezone)
            assert found.get((key, day), Rows()) == expected, (key, day)


def rows_of(world: World, key: str, day: date | str, zone: str = COPENHAGEN) -> Rows:
    """The rows of an asset's day in the simulator's world."""
    schema, name = key.split("/")
    period = period_of(day, zone)
    if schema == "dixa_records":
        rows = [_record_row(row) for row in sent_rows(world, name, day, zone)]
    else:
        rows = _metric_rows(world, name, period, zone)
    return Rows(_text({"partition_date": str(day)} | row) for row in rows)


def period_rows_of(
    world: World, metrics: Iterable[str], day: date | str, zone: str = COPENHAGEN
) -> Rows:
    """The rows of the weeks, from Monday on, and the months that end with a day."""
    last = date.fromisoformat(str(day))
    after = last + timedelta(days=1)
    firsts = {"week": after - timedelta(days=7)} if after.weekday() == 0 else {}
    firsts |= {"month": last.replace(day=1)} if after.day == 1 else {}
    return Rows(
        _text(
            {"partition_date": str(last), "period": name, "first_day": str(first), "metric": metric}
            | row
        )
        for name, first in firsts.items()
        for metric in metrics
        for row in _metric_rows(
            world, metric, period_of(last, zone) | {"start": midnight(first, zone)}, zone
        )
    )


def sent_rows(world: World, name: str, day: date | str, zone: str = COPENHAGEN) -> list[Json]:
    """The rows of a record's day as the API sends them."""
    return [row.to_api() for row in world.rows(name, **period_of(day, zone))]


def period_of(day: date | str, zone: str = COPENHAGEN) -> dict[str, datetime]:
    """A day as arguments of the world's functions."""
    day = date.fromisoformat(str(day))
    return {
        "start": midnight(day, zone),
        "end": midnight(day + timedelta(days=1), zone),
        "now": NOW,
    }


def rows_in(database: Path | str, *keys: str) -> dict[Partition, Rows]:
    """The rows of some assets in a database file; an asset without a table has none."""
    found: dict[Partition, Rows] = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        there = connection.execute(
            "SELECT table_schema || '/' || table_name FROM information_schema.tables"
        ).fetchall()
        for key in {key for (key,) in there} & set(keys):
            rows = connection.execute(
                "SELECT CAST(partition_date AS VARCHAR), to_json(one) FROM (SELECT * EXCLUDE "
                f"(loaded_at, run_id) FROM {key.replace('/', '.')}) AS one"
            )
            for day, row in rows.fetchall():
                found.setdefault((key, day), Rows())[_text(json.loads(row))] += 1
    return found


def _metric_rows(world: World, name: str, period: Mapping[str, datetime], zone: str) -> list[Json]:
    own = {"interval_start": _stamp(period["start"]), "interval_end": _stamp(period["end"])}
    return [
        own | {"timezone": zone} | values
        for aggregate in world.aggregate(name, **period)
        for values in _aggregate_rows(aggregate)
    ]


def _aggregate_rows(aggregate: Mapping[str, Any]) -> list[Json]:
    if not isinstance(aggregate["value"], list):
        return [{"measure": aggregate["measure"], "value": aggregate["value"]}]
    return [
        {
            "measure": "AgentPresenceDuration",
            "status": part["status"]["status"],
            "value": part["value"],
        }
        for part in aggregate["value"]
    ]


def _record_row(row: Mapping[str, Any]) -> Json:
    primary = row["primaryTimestampField"]
    content = {
        "primary_timestamp": _stamp(datetime.fromisoformat(primary["timestamp"])),
        "primary_timestamp_field": primary["name"],
    }
    fields = {item["name"]: item.get("field") for item in row["fields"]}
    for name, typed in (fields | {"value": row.get("value")}).items():
        if typed is None:
            continue
        is_list = typed["_type"] == "ListField"
        items = typed.get("values", []) if is_list else [typed]
        values, labels = [_value(item) for item in items], [item.get("label") for item in items]
        if typed["_type"] == "TimestampField":
            labels = [typed["name"]]
        if not is_list or "values" in typed:
            content[name] = values if is_list else values[0]
        if any(labels):
            content[f"{name}_label"] = labels if is_list else labels[0]
    return content


def _value(typed: Mapping[str, Any]) -> Any:
    if typed["_type"] in ("InstantField", "TimestampField"):
        return _stamp(datetime.fromisoformat(typed.get("value") or typed["timestamp"]))
    return typed["value"]


def _stamp(instant: datetime) -> str:
    """An instant as DuckDB writes it in UTC: no zeros at the end of a fraction."""
    text = instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "+00"


def _text(row: Mapping[str, Any]) -> str:
    known = {name: _plain(value) for name, value in row.items() if value is not None}
    return json.dumps(known, sort_keys=True)


def _plain(value: Any) -> Any:
    """Whole numbers are equal whatever the type of their column."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
