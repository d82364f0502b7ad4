"""What several test modules build: a component against the simulator, and its loads."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from dixa_assets.catalogue import Catalogue
from dixa_assets.component import DixaAnalytics
from dixa_assets.sensors import fetch_catalogue
from dixa_assets_tests.conftest import KEY, Simulator


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
    keys: Sequence[str],
    first: str,
    last: str | None = None,
    *,
    instance: dg.DagsterInstance | None = None,
    catalogue: Catalogue | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets (`schema/relation`) for the days from `first` to `last`."""
    definitions = analytics.build_definitions(catalogue or fetched(analytics))
    return dg.materialize(
        [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=[dg.AssetKey(key.split("/")) for key in keys],
        resources=dict(definitions.resources or {}) | {"dixa": analytics.build_dixa(KEY)},
        tags={
            ASSET_PARTITION_RANGE_START_TAG: first,
            ASSET_PARTITION_RANGE_END_TAG: last or first,
        },
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
