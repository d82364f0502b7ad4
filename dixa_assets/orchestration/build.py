"""Build all definitions of an account from its catalogue.

The attributes and their validation are in `component.py`.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.alert import alert_webhook
from dixa_assets.orchestration.assets import (
    DailyAssets,
    build_catalogue_assets,
    build_filter_asset,
    describe_catalogue,
    describe_filters,
    describe_views,
)
from dixa_assets.orchestration.dbt import write_dbt
from dixa_assets.orchestration.frames import FRAMES
from dixa_assets.orchestration.history import Tracked, build_history_sensor
from dixa_assets.orchestration.naming import DixaAsset, Specs
from dixa_assets.orchestration.partitions import build_partitions_def
from dixa_assets.orchestration.published import Published, describe_one, published_assets
from dixa_assets.orchestration.schedules import build_daily_schedule, build_published_schedule
from dixa_assets.orchestration.sensors import (
    LOAD_JOB,
    build_catalogue_sensor,
    build_failure_sensor,
    build_publish_sensor,
)
from dixa_assets.orchestration.settings import Account
from dixa_assets.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)
# Dagster stops every run of the load job after 12 hours, so a load that hangs ends.
MAX_RUNTIME_TAG = {"dagster/max_runtime": str(12 * 3600)}


def build_account(
    account: Account, catalogue: Catalogue, resources: Mapping[str, Any]
) -> dg.Definitions:
    """Build all definitions of an account.

    Args:
        account: The account.
        catalogue: The catalogue. Without entries, only the sensor that fetches it is built.
        resources: The account's resources by name.
    """
    catalogue_sensor = build_catalogue_sensor(account, catalogue)
    if not catalogue.entries:
        logger.warning(
            "No catalogue is known yet, so there is no asset of Dixa. The sensor %s fetches it, or "
            "`dg utils refresh-defs-state` does.",
            catalogue_sensor.name,
        )
        return dg.Definitions(sensors=[catalogue_sensor], resources=resources)
    definitions = _AccountDefinitions(account, catalogue)
    job = definitions.job()
    return dg.Definitions(
        assets=definitions.assets(),
        jobs=[job],
        sensors=[catalogue_sensor, *definitions.sensors(job)],
        schedules=definitions.schedules(job),
        resources=resources,
    )


class _AccountDefinitions:
    """Assets, job, sensors and schedules of one catalogue."""

    def __init__(self, account: Account, catalogue: Catalogue) -> None:
        self._account = account
        self._catalogue = catalogue
        names, options = account.names, account.options
        # 1. Describe every asset.
        wanted = [entry for entry in catalogue.entries if options.settings.wants(entry)]
        self._load_specs = [options.spec(entry) for entry in wanted]
        self._partitions_def = build_partitions_def(options.settings.start_date, options.timezone)
        self._daily = DailyAssets(
            catalogue,
            names=names,
            partitions_def=self._partitions_def,
            options=options,
            days_per_run=account.settings.days_per_run,
        )
        self._tables = describe_catalogue(catalogue, names)
        self._kept_filters = options.kept_filters(catalogue)
        self._filters = describe_filters(self._kept_filters, names)
        self._views = describe_views(options.settings.views, wanted, names)
        entries = [*map(self._daily.describe, self._load_specs)]
        records = [each.spec.key for each in entries if each.schema == "dixa_records"]
        self._published = published_assets(
            account,
            marts=account.marts(catalogue),
            shown=[*(each.spec.key for each in self._views), *records],
            tables=[each.spec.key for each in (*self._tables, *self._filters)],
        )
        if account.settings.dbt_path:
            self._published.append(self._dbt_files(Path(account.settings.dbt_path)))
        published = [asset for each in self._published for asset in each.assets]
        described = [
            replace(each, spec=each.spec.with_io_manager_key(names.of(FRAMES)))
            for each in (*self._tables, *self._filters, *self._views, *entries, *published)
        ]
        # 2. Translate the descriptions. The keys of jobs, sensors and schedules come from these.
        self._specs = Specs(described, account.translate)
        self._entries = {
            self._specs.key(each.entry.schema, each.entry.name): each for each in self._load_specs
        }
        self._live = [key for key, each in self._entries.items() if each.entry.is_live]
        self._unpartitioned = {
            self._key(each): Tracked(f"{each.schema}/{each.name}", version)
            for described, version in (
                (self._tables, options.version(catalogue)),
                (self._filters, ""),
            )
            for each in described
        }

    def assets(self) -> list[dg.AssetsDefinition | dg.AssetSpec]:
        """Build every asset of the account."""
        names, specs, options = self._account.names, self._specs, self._account.options
        return [
            build_catalogue_assets(self._catalogue, names, specs, options),
            *(
                build_filter_asset(*each, names, specs, options.policy())
                for each in self._kept_filters.items()
            ),
            *(self._daily.build(each, specs) for each in self._load_specs),
            *(specs[each.schema, each.name] for each in self._views),
            *(each.build(names, specs) for each in self._published),
        ]

    def job(self) -> Any:
        """Build the job of the sensors and schedules."""
        return dg.define_asset_job(
            self._account.names.of(LOAD_JOB),
            selection=dg.AssetSelection.assets(
                *self._live, *self._unpartitioned, *self._published_keys()
            ),
            # Loads wait for the API, not for a processor, so one process runs all steps in turn.
            executor_def=dg.in_process_executor,
            tags=MAX_RUNTIME_TAG,
            description="Loads the assets that a sensor or a schedule selects.",
        )

    def sensors(self, job: Any) -> list[dg.SensorDefinition]:
        """Build the sensors that load and publish, and the alert sensor if a webhook is set."""
        account = self._account
        sensors = [
            build_history_sensor(
                account,
                job=job,
                assets=self._unpartitioned | self._tracked_entries(),
                partitions_def=self._partitions_def,
            )
        ]
        loaded = {*self._unpartitioned, *self._live}
        if after_loads := self._published_keys(cron=""):
            sensors.append(build_publish_sensor(account, job=job, keys=after_loads, loaded=loaded))
        if alert_webhook():
            own = {*loaded, *self._published_keys()}
            sensors.append(build_failure_sensor(account, own=own))
        return sensors

    def _tracked_entries(self) -> dict[dg.AssetKey, Tracked]:
        days = str(self._account.options.settings.history_days)
        tracked = {}
        for key, spec in self._entries.items():
            # Other periods are another load.
            periods = f" {spec.periods} {spec.week_starts_on}" if spec.periods else ""
            version = f"{days}{periods}" if spec.entry.is_live else "retired"
            tracked[key] = Tracked(spec.entry.key, version, spec)
        return tracked

    def schedules(self, job: Any) -> list[dg.ScheduleDefinition]:
        """Build the daily refresh, and a schedule for each published asset with its own time."""
        schedules = [
            build_published_schedule(
                self._account, each.name, job=job, keys=[*each.keys(self._specs)], cron=each.cron
            )
            for each in self._published
            if each.cron
        ]
        if self._account.settings.refresh_cron:
            schedules.append(
                build_daily_schedule(
                    self._account,
                    job=job,
                    daily_keys=tuple(self._live),
                    other_keys=[*map(self._key, self._filters)],
                    partitions_def=self._partitions_def,
                )
            )
        return schedules

    def _dbt_files(self, folder: Path) -> Published:
        def run(_: Warehouse) -> Mapping[str, Mapping[str, Any]]:
            database = self._account.read_copy or self._account.database
            changed = write_dbt(folder, self._specs, self._catalogue, str(database))
            made = {"path": dg.MetadataValue.path(folder), "files_written": len(changed)}
            return {"dbt_sources": made}

        about = "The files sources.yml and profiles.yml of a dbt project, from the catalogue."
        deps = [each.spec.key for each in self._tables]
        asset = describe_one(self._account, "dbt_sources", "dbt", about, deps=deps)
        return Published("dbt_sources", [asset], run)

    def _key(self, asset: DixaAsset) -> dg.AssetKey:
        return self._specs.key(asset.schema, asset.name)

    def _published_keys(self, cron: str | None = None) -> dict[dg.AssetKey, str]:
        """The published assets with their versions; with `cron`, the assets made at that time."""
        chosen = [each for each in self._published if cron in (None, each.cron)]
        return {key: version for each in chosen for key, version in each.keys(self._specs).items()}
