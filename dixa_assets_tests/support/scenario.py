"""What several test modules build: a component against the simulator, and its loads."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.options import Adaptation
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from dixa_assets_tests.support.simulator import KEY, Simulator


def component(simulator: Simulator, folder: Path, **attributes: Any) -> DixaAnalytics:
    """A component that loads from the simulator, at full speed, into a database in the folder."""
    settings: dict[str, Any] = {
        "base_url": simulator.url,
        "duckdb_path": str(folder / "test.duckdb"),
        "requests_per_second": 100_000.0,
        "burst": 1000,
    }
    return DixaAnalytics(**(settings | attributes))


def fetched(analytics: DixaAnalytics, known: Catalogue | None = None) -> Catalogue:
    """The simulator's catalogue as it is now."""
    with analytics.build_dixa(KEY).client() as client:
        return fetch_catalogue(client, known or Catalogue())[0]


def load(
    analytics: DixaAnalytics,
    keys: Sequence[str] | dg.AssetSelection,
    first: str = "",
    last: str | None = None,
    *,
    instance: dg.DagsterInstance | None = None,
    catalogue: Catalogue | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets (`schema/relation`), or a selection; those with days, the days given."""
    selection = (
        keys
        if isinstance(keys, dg.AssetSelection)
        else [dg.AssetKey(key.split("/")) for key in keys]
    )
    catalogue = catalogue or fetched(analytics)
    definitions = analytics.build_definitions(catalogue)
    return dg.materialize(
        [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=selection,
        resources=analytics.build_resources(KEY, Adaptation.of(catalogue.facts)),
        tags={
            ASSET_PARTITION_RANGE_START_TAG: first,
            ASSET_PARTITION_RANGE_END_TAG: last or first,
        }
        if first
        else None,
        instance=instance,
        raise_on_error=False,
    )


def days(first: str, last: str) -> list[date]:
    """Every day from `first` to `last`."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step said, as the run's page shows it."""
    failures = {event.step_key: event for event in result.get_step_failure_events()}
    data = failures[step].step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def tampered(analytics: DixaAnalytics, sql: str) -> None:
    """Change the warehouse behind the project's back."""
    with analytics.build_warehouse().reading() as query:
        query(sql)


def midnight(day: Any, zone: str) -> datetime:
    """Local midnight, by way of the wall clock an hour before: independent of the loader's way."""
    local = datetime(day.year, day.month, day.day, tzinfo=UTC)
    candidates = (
        instant
        for minutes in range(-26 * 60, 26 * 60, 15)
        if (instant := local + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone)).date() == day
    )
    return min(candidates)


def truth(aggregates: list[dict[str, Any]]) -> dict[tuple[str, str | None], float]:
    values: dict[tuple[str, str | None], float] = {}
    for one in aggregates:
        if isinstance(one["value"], list):
            for part in one["value"]:
                values["AgentPresenceDuration", part["status"]["status"]] = part["value"]
        else:
            values[one["measure"], None] = one["value"]
    return values


def flat(row: dict[str, Any]) -> str:
    """A row of the API as its values by field, instants as such and nulls left out, as text."""
    content = {
        "primary_timestamp": instant(row["primaryTimestampField"]["timestamp"]),
        "primary_timestamp_field": row["primaryTimestampField"]["name"],
    }
    fields = {item["name"]: item.get("field") for item in row["fields"]}
    if "value" in row:
        fields["value"] = row["value"]
    for name, field in fields.items():
        if field is None:
            continue
        if field["_type"] == "ListField":
            if "values" in field:
                content[name] = [item["value"] for item in field["values"]]
                labels = [item.get("label") for item in field["values"]]
                if any(labels):
                    content[f"{name}_label"] = labels
        elif field["_type"] == "TimestampField":
            content[name] = instant(field["timestamp"])
            content[f"{name}_label"] = field["name"]
        else:
            is_instant = field["_type"] == "InstantField"
            content[name] = instant(field["value"]) if is_instant else field["value"]
            if "label" in field:
                content[f"{name}_label"] = field["label"]
    return repr(sorted(content.items()))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def stored(query: Callable[..., pd.DataFrame], record: str, day: Any) -> list[str]:
    """A day's rows as `flat` gives them; own columns and nulls left out."""
    rows = query(
        f'SELECT * EXCLUDE (partition_date, loaded_at, run_id) FROM dixa_records."{record}" '
        "WHERE partition_date = ?",
        [day],
    )
    found = []
    for row in rows:
        content = {}
        for name, value in row._asdict().items():
            if value is None:
                continue
            if isinstance(value, datetime):
                value = value.astimezone(UTC)
            content[name.removesuffix("_") if name.endswith("_") else name] = value
        found.append(repr(sorted(content.items())))
    return sorted(found)
