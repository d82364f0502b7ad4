"""`DixaAnalytics`, the front door: from the stored catalogue to everything Dagster shows.

Its attributes are the user's configuration. Loading it asks nothing of the network: the catalogue
comes from Dagster's state storage, where the catalogue sensor puts it.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.storage.defs_state.base import DefsStateStorage
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster_duckdb import DuckDBResource
from dagster_shared.serdes.objects.models.defs_state_info import DefsStateManagementType
from pydantic import Field, model_validator

from dixa_assets.assets import (
    LoadOptions,
    build_catalogue_assets,
    build_filter_asset,
    build_metric_asset,
    build_metrics_daily_spec,
    build_read_copy_asset,
    build_record_asset,
    build_report_asset,
)
from dixa_assets.catalogue import Catalogue, Entry
from dixa_assets.checks import build_checks
from dixa_assets.client import DEFAULT_BASE_URL
from dixa_assets.errors import ConfigError
from dixa_assets.partitions import build_partitions_def
from dixa_assets.report import Settings
from dixa_assets.resources import DixaResource, build_warehouse
from dixa_assets.schedules import build_daily_schedule
from dixa_assets.sensors import (
    build_catalogue_sensor,
    build_failure_sensor,
    build_history_sensor,
    build_publish_sensor,
    fetch_catalogue,
)
from dixa_assets.warehouse import STORAGE_VERSION, Warehouse


class DixaAnalytics(dg.StateBackedComponent, dg.Model, dg.Resolvable):
    """Every metric and record of Dixa's Analytics API as a daily-partitioned DuckDB table."""

    timezone: str = Field(
        default="Europe/Copenhagen",
        description="IANA zone whose midnights bound a day: your Dixa organisation's.",
    )
    start_date: str = Field(default="2025-01-01", description="First partition, YYYY-MM-DD.")
    duckdb_path: str = Field(default="data/dixa.duckdb", description="The database file.")
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Scheme and host of the API.")
    api_version: str = Field(default="v1", description="Path prefix of the API: v1 or beta.")
    auth_scheme: str = Field(default="", description="Empty for the raw token, or 'Bearer'.")
    requests_per_second: float = Field(
        default=10.0, description="Pace of all processes here that share the token."
    )
    burst: int = Field(default=2, description="Requests that may go at once.")
    catalogue_refresh_seconds: int = Field(
        default=300, description="Seconds between looks at the catalogue."
    )
    history_days: int = Field(
        default=30, description="Days loaded by itself when an asset first appears; 0: none."
    )
    refresh_days: int = Field(default=7, description="Trailing days the daily schedule reloads.")
    include: Sequence[str] = Field(default=(), description="Ids to load; empty: all.")
    exclude: Sequence[str] = Field(default=(), description="Ids not to load.")
    filters: Mapping[str, Mapping[str, Sequence[str]]] = Field(
        default={},
        description="Per id, filter attributes with the values to keep.",
        examples=[{"closed_conversations": {"channel": ["EMAIL", "CHAT"]}}],
    )
    breakdowns: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per metric id, filter attributes to break it down by: one more request per "
        "value and day.",
        examples=[{"closed_conversations": ["channel", "queue_id"]}],
    )
    required_filter: str = Field(
        default="",
        description="A filter attribute whose values are all sent, where Dixa insists on a filter.",
    )
    exclude_fields: Mapping[str, Sequence[str]] = Field(
        default={},
        description="Per record id, fields never to be stored; '*' stands for every record.",
        examples=[{"*": ["contact_point"]}],
    )
    windows_at_a_time: int = Field(default=6, description="Requests under way side by side.")
    database_wait_seconds: float = Field(
        default=600.0, description="How long another user of the database is waited for."
    )
    read_copy_path: str = Field(
        default="",
        description="A copy of the database for readers, renewed after loads; empty: none.",
    )
    owners: Sequence[str] = Field(
        default=(), description="Owners of every asset: e-mail addresses, or 'team:name'."
    )
    defs_state: ResolvedDefsStateConfig = Field(
        default=DefsStateConfigArgs(
            management_type=DefsStateManagementType.VERSIONED_STATE_STORAGE,
            # A load that asks the API would turn an outage into an empty code location.
            refresh_if_dev=False,
        )
    )

    @model_validator(mode="after")
    def _refuse_impossible_settings(self) -> Self:
        build_partitions_def(self.start_date, self.timezone)
        least = {
            "catalogue_refresh_seconds": 5,
            "history_days": 0,
            "refresh_days": 1,
            "requests_per_second": 0.01,
            "burst": 1,
            "windows_at_a_time": 1,
            "database_wait_seconds": 0,
        }
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ConfigError(
                    f"DIXA_{name.upper()}", f"is {getattr(self, name)}; at least {minimum} works."
                )
        return self

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the catalogue is kept: one per API host; two accounts need a `key` each."""
        host = urlsplit(self.base_url).hostname
        return DefsStateConfig.from_args(self.defs_state, default_key=f"DixaAnalytics[{host}]")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Definitions from the catalogue version this process is pinned to, or the latest."""
        load_context, storage = DefinitionsLoadContext.get(), DefsStateStorage.get()
        if storage is None:
            return self.build_defs_from_state(context, None)
        # The command line loads without a pin and would forget the one it finds before it runs.
        key = self.defs_state_config.key
        if load_context.get_defs_key_state_info(key) is None:
            version = storage.get_latest_version(key)
            if version is not None:
                load_context.add_defs_state_info(key, version)
        return super().build_defs(context)

    def write_state_to_path(self, state_path: Path) -> None:
        """Fetch the catalogue, for `dg utils refresh-defs-state`; the sensor does it by itself."""
        storage, key = DefsStateStorage.get(), self.defs_state_config.key
        known = Catalogue()
        version = storage.get_latest_version(key) if storage else None
        if storage and version:
            storage.download_state_to_path(key, version, state_path)
            known = Catalogue.from_json(state_path.read_text())
        resource = self.build_dixa(os.environ.get("DIXA_API_KEY", ""))
        with resource.client() as client:
            catalogue, _ = fetch_catalogue(client, known)
        state_path.write_text(catalogue.to_json())

    def build_defs_from_state(
        self, context: dg.ComponentLoadContext, state_path: Path | None
    ) -> dg.Definitions:
        """Assets, sensors, schedule and resources for the catalogue at `state_path`."""
        catalogue = Catalogue.from_json(state_path.read_text()) if state_path else Catalogue()
        return self.build_definitions(catalogue)

    def build_definitions(self, catalogue: Catalogue) -> dg.Definitions:
        """Everything for one catalogue; with an empty one, what it takes to fetch the first."""
        partitions_def = build_partitions_def(self.start_date, self.timezone)
        options = LoadOptions(
            partitions_def=partitions_def,
            timezone=self.timezone,
            filters=self.filters,
            breakdowns=self.breakdowns,
            exclude_fields=self.exclude_fields,
            required_filter=self.required_filter,
            windows_at_a_time=self.windows_at_a_time,
            database_wait_seconds=self.database_wait_seconds,
        )
        resources = {
            "dixa": self.build_dixa(dg.EnvVar("DIXA_API_KEY")),
            "duckdb": self._duckdb(),
        }
        catalogue_sensor = build_catalogue_sensor(
            loaded=catalogue,
            state_key=self.defs_state_config.key,
            interval_seconds=self.catalogue_refresh_seconds,
        )
        wanted = [entry for entry in catalogue.entries if self._is_wanted(entry)]
        if not wanted:
            return dg.Definitions(
                sensors=[catalogue_sensor],
                resources=resources,
                executor=dg.in_process_executor,
            )
        catalogue_assets = build_catalogue_assets(catalogue, options)
        filter_assets = [
            build_filter_asset(attribute, name, options)
            for attribute, name in catalogue.filter_names.items()
        ]
        live = {dg.AssetKey([entry.schema, entry.name]): entry for entry in wanted if entry.is_live}
        undated = {key: "" for asset in filter_assets for key in asset.keys}
        published = self._published(options)
        sensors = [
            catalogue_sensor,
            build_history_sensor(
                daily=live,
                undated=undated | dict.fromkeys(catalogue_assets.keys, catalogue.version),
                partitions_def=partitions_def,
                history_days=self.history_days,
            ),
        ]
        keys = [asset.key for asset in published]
        sensors.append(build_publish_sensor(keys=keys, database=Path(self.duckdb_path)))
        if os.environ.get("DIXA_ALERT_WEBHOOK"):
            sensors.append(build_failure_sensor())
        definitions = dg.Definitions(
            assets=[
                catalogue_assets,
                *filter_assets,
                *(
                    (build_metric_asset if entry.kind == "metric" else build_record_asset)(
                        entry,
                        options,
                        build_checks(
                            entry,
                            catalogue,
                            partitions_def=partitions_def,
                            history_days=self.history_days,
                            excluded_fields=options.excluded_fields(entry),
                        ),
                        catalogue,
                    )
                    for entry in wanted
                ),
                build_metrics_daily_spec(wanted),
                *published,
            ],
            sensors=sensors,
            schedules=[
                build_daily_schedule(
                    daily_keys=tuple(live),
                    other_keys=tuple(undated),
                    partitions_def=partitions_def,
                    refresh_days=self.refresh_days,
                )
            ],
            resources=resources,
            # The work waits for the API, not for a core: one process takes a run's steps in turn.
            executor=dg.in_process_executor,
        )
        if not self.owners:
            return definitions
        return definitions.map_asset_specs(
            func=lambda spec: spec.replace_attributes(owners=list(self.owners))
        )

    def _published(self, options: LoadOptions) -> list[dg.AssetsDefinition]:
        """What is made of the whole database, for people who do not query it."""
        assets = [build_report_asset(options, self.report_settings)]
        if self.read_copy_path:
            assets.append(build_read_copy_asset(Path(self.read_copy_path).absolute(), options))
        return assets

    def _is_wanted(self, entry: Entry) -> bool:
        return entry.id not in self.exclude and (not self.include or entry.id in self.include)

    def build_dixa(self, api_key: str) -> DixaResource:
        """The API resource with the key, or with the name of the variable that holds it."""
        return DixaResource(
            api_key=api_key,
            base_url=self.base_url,
            api_version=self.api_version,
            auth_scheme=self.auth_scheme,
            requests_per_second=self.requests_per_second,
            burst=self.burst,
        )

    @property
    def report_settings(self) -> Settings:
        """What a report must know of the configuration."""
        return Settings(self.start_date, self.history_days, self.exclude_fields)

    def build_warehouse(self, *, wait_seconds: float | None = None) -> Warehouse:
        """The warehouse as loads see it."""
        wait = self.database_wait_seconds if wait_seconds is None else wait_seconds
        return build_warehouse(self._duckdb(), timezone=self.timezone, wait_seconds=wait)

    def _duckdb(self) -> DuckDBResource:
        return DuckDBResource(
            database=str(Path(self.duckdb_path).absolute()),
            connection_config={"storage_compatibility_version": STORAGE_VERSION},
        )


def build_definitions(**attributes: Any) -> dg.Definitions:
    """What the component gives, in plain Python: the attributes are those of `DixaAnalytics`.

        defs = build_definitions(timezone="Europe/Copenhagen", duckdb_path="data/dixa.duckdb")

    The catalogue is the one that Dagster's state storage holds for the run, or its latest; the
    sensor in the definitions fetches the first.
    """
    analytics = DixaAnalytics(**attributes)
    load_context, storage = DefinitionsLoadContext.get(), DefsStateStorage.get()
    key = analytics.defs_state_config.key
    known = load_context.get_defs_key_state_info(key)
    version = known.version if known else storage.get_latest_version(key) if storage else None
    if storage is None or version is None:
        return analytics.build_definitions(Catalogue())
    if known is None:
        load_context.add_defs_state_info(key, version)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        storage.download_state_to_path(key, version, path)
        return analytics.build_definitions(Catalogue.from_json(path.read_text()))
