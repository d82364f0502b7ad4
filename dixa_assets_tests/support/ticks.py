"""Ticks of the sensors, and what they request."""

import dagster as dg

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue, Listing
from dixa_assets.model.catalogue_rows import catalogue_rows
from dixa_assets.model.merge import merge
from dixa_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from dixa_assets_tests.support.simulator import KEY


def catalogue_tick(
    analytics: DixaAnalytics, catalogue: Catalogue, instance: dg.DagsterInstance
) -> str:
    """The message of a tick of the catalogue sensor."""
    (sensor, *_) = analytics.build_definitions(catalogue).sensors or ()
    context = dg.build_sensor_context(
        instance, resources={"dixa_api": analytics.build_dixa(KEY)}, sensor_name=sensor.name
    )
    return str(sensor.evaluate_tick(context).skip_message)


def history_tick(
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
) -> dg.SensorResult:
    """A tick of the sensor that loads missing days."""
    definitions = analytics.build_definitions(catalogue)
    (sensor,) = (each for each in definitions.sensors or () if each.name == "dixa_history")
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=definitions.get_repository_def()
    )
    found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def keys_of(tick: dg.SensorResult) -> set[str]:
    """The assets that a tick requests."""
    requests = tick.run_requests or ()
    return {key.to_user_string() for each in requests for key in each.asset_selection or ()}


def ranges_of(tick: dg.SensorResult) -> list[tuple[str, str]]:
    """First and last day of each run of days that a tick requests."""
    tags = [each.tags for each in tick.run_requests or () if each.tags]
    return [
        (each[ASSET_PARTITION_RANGE_START_TAG], each[ASSET_PARTITION_RANGE_END_TAG])
        for each in tags
    ]


def first_seen(catalogue: Catalogue, at: str = "2025-11-10T09:00:00+00:00") -> Catalogue:
    """The same catalogue, first fetched at another time."""
    listing = Listing(catalogue.entries)
    return merge(Catalogue(), listing, at=at, is_still_described=lambda _: True)


def tables_of(catalogue: Catalogue) -> list[str]:
    """The assets of the catalogue's tables."""
    return [f"dixa_catalogue/{table.name}" for table in catalogue_rows(catalogue)]
