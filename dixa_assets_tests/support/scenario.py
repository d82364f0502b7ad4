"""A component against the simulator, its catalogue and its loads."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

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
    """Materialize assets (`schema/relation`) or a selection, for some days if they have days."""
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
    """The message of a failed step, as the run's page shows it."""
    failures = {event.step_key: event for event in result.get_step_failure_events()}
    data = failures[step].step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def tampered(analytics: DixaAnalytics, sql: str) -> None:
    """Change the database with a statement of the test's own."""
    with analytics.build_warehouse().reading() as query:
        query(sql)


def midnight(day: date, zone: str) -> datetime:
    """The first quarter of an hour of a local day, found without the loader's way."""
    local = datetime(day.year, day.month, day.day, tzinfo=UTC)
    candidates = (
        instant
        for minutes in range(-26 * 60, 26 * 60, 15)
        if (instant := local + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone)).date() == day
    )
    return min(candidates)
