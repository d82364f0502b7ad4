"""`DixaAnalytics`, the front door: from the stored catalogue to everything Dagster shows.

Its attributes are the user's configuration. Loading it asks nothing of the network: the catalogue
comes from Dagster's state storage, where the catalogue sensor puts it.
"""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import dagster as dg
from dagster import DagsterError
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from dagster_duckdb import DuckDBResource
from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.api.requests import Choices, fetch_filter_values
from dixa_assets.api.transport import API_VERSION, BASE_URL, BURST, REQUESTS_PER_SECOND
from dixa_assets.checks.registry import Setup
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue, Entry
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.orchestration import state
from dixa_assets.orchestration.assets import (
    DailyAssets,
    build_catalogue_assets,
    build_filter_asset,
    build_lake_asset,
    build_read_copy_asset,
    build_report_asset,
    describe_catalogue,
    describe_filters,
    describe_lake,
    describe_metrics_daily,
    describe_read_copy,
    describe_report,
)
from dixa_assets.orchestration.dagster_internals import (
    CheckError,
    DefsStateManagementType,
    DefsStateStorage,
    is_valid_cron,
    run_launcher,
)
from dixa_assets.orchestration.naming import DixaAsset, Names, Specs
from dixa_assets.orchestration.partitions import build_partitions_def
from dixa_assets.orchestration.resources import (
    API,
    LOADER,
    WAREHOUSE,
    DixaResource,
    LoaderResource,
    WarehouseResource,
)
from dixa_assets.orchestration.schedules import build_daily_schedule, build_lake_schedule
from dixa_assets.orchestration.sensors import (
    Undated,
    build_catalogue_sensor,
    build_failure_sensor,
    build_history_sensor,
    build_publish_sensor,
)
from dixa_assets.scaffold import DixaScaffolder
from dixa_assets.settings.messages import explained, refuse_misspelt_variables
from dixa_assets.settings.misspelt import (
    VARIABLES,
    Mistake,
    hint,
    unknown_fields,
    unknown_names,
    variables_in,
)
from dixa_assets.settings.paths import (
    beginning_at,
    database_address,
    is_same_file,
    postgres_url,
    published_path,
    refuse_local_data,
)
from dixa_assets.warehouse.engine import STORAGE_VERSION, WAIT_SECONDS
from dixa_assets.warehouse.warehouse import Warehouse

VERSIONED = DefsStateManagementType.VERSIONED_STATE_STORAGE
# A load that hangs is ended by Dagster's run monitoring after this many seconds.
LONGEST_RUN = {"dagster/max_runtime": str(12 * 3600)}
HOUSE = Path(__file__).parent
# Launchers of runs that see the files of the code location.
ON_THIS_MACHINE = ("", "DefaultRunLauncher", "SyncInMemoryRunLauncher")
# Before the daily schedule; no zone's clocks change at this hour.
LAKE_CRON = "30 4 * * *"


def _at_least(minimum: float, default: float, description: str) -> Any:
    """A number with a lower limit.

    Not pydantic's own `ge`: Dagster applies that to templates too, which are text until resolved.
    """
    extra: JsonDict = {"minimum": minimum}
    return Field(default=default, description=description, json_schema_extra=extra)


@dg.scaffold_with(DixaScaffolder)
class DixaAnalytics(dg.StateBackedComponent, dg.Model, dg.Resolvable):
    """Every metric and record of Dixa's Analytics API as a daily-partitioned DuckDB table."""

    account: str = Field(
        default="",
        description="A name that tells several accounts apart: the first part of asset keys.",
    )
    api_key_variable: str = Field(
        default="DIXA_API_KEY", description="The environment variable the token stands in."
    )
    timezone: str = Field(
        default="Europe/Copenhagen",
        description="IANA zone whose midnights bound a day: your Dixa organisation's.",
    )
    start_date: str = Field(default="2025-01-01", description="First partition, YYYY-MM-DD.")
    duckdb_path: str = Field(
        default="data/dixa.duckdb",
        validate_default=True,
        description="The database file, a relative path begins at the project's folder; or a lake "
        "that many machines write, `ducklake:postgres:dbname=… host=…`.",
    )
    lake_data: str = Field(
        default="",
        description="Where a lake keeps its rows: a folder that all machines have, or `s3://…`.",
    )
    base_url: str = Field(default=BASE_URL, description="Scheme and host of the API.")
    api_version: str = Field(default=API_VERSION, description="Path prefix of the API: v1 or beta.")
    auth_scheme: str = Field(default="", description="Empty for the raw token, or 'Bearer'.")
    requests_per_second: float = _at_least(
        0.01, REQUESTS_PER_SECOND, "Pace of all processes here that share the token."
    )
    burst: int = _at_least(1, BURST, "Requests that may go at once.")
    pace_url: str = Field(
        default="",
        description="postgresql://… of the database in which several machines that share the token "
        "keep its pace; empty: the processes of this machine share it.",
    )
    catalogue_refresh_seconds: int = _at_least(5, 300, "Seconds between looks at the catalogue.")
    history_days: int = _at_least(
        0, 30, "Days loaded by itself when an asset first appears; 0: none."
    )
    refresh_days: int = _at_least(1, 7, "Trailing days the daily schedule reloads.")
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
    windows_at_a_time: int = _at_least(1, 6, "Requests under way side by side.")
    database_wait_seconds: float = _at_least(
        0, WAIT_SECONDS, "How long another user of the database is waited for."
    )
    days_per_run: int = _at_least(
        0, 0, "Days of a backfill that one run takes, so that workers share it; 0: one takes all."
    )
    read_copy_path: str = Field(
        default="",
        description="A copy of the database for readers, renewed after loads; empty: none.",
    )
    report_path: str = Field(
        default="",
        description="The HTML report; empty: beside the database file, and none of a lake.",
    )
    report: bool = Field(
        default=True,
        description="Whether the HTML report is an asset; it takes `dixa-assets[report]`.",
    )
    refresh_cron: str = Field(
        # No zone's clocks change at this hour, so it comes once a day.
        default="30 5 * * *",
        description="When the trailing days are reloaded, in the account's zone; empty: never.",
    )
    default_sensor_status: Literal["RUNNING", "STOPPED"] = Field(
        default="RUNNING", description="Whether the sensors run by themselves."
    )
    default_schedule_status: Literal["RUNNING", "STOPPED"] = Field(
        default="RUNNING", description="Whether the schedule runs by itself."
    )
    owners: Sequence[str] = Field(
        default=(), description="Owners of every asset: e-mail addresses, or 'team:name'."
    )
    translation: Annotated[
        TranslationFn[DixaAsset] | None,
        TranslationFnResolver(template_vars_for_translation_fn=lambda asset: {"asset": asset}),
    ] = Field(
        default=None,
        description="Attributes of every asset; `asset.id`, `asset.schema` and `spec` can be used.",
    )
    defs_state: ResolvedDefsStateConfig = Field(
        default=DefsStateConfigArgs(
            management_type=VERSIONED,
            # A load that asks the API would turn an outage into an empty code location.
            refresh_if_dev=False,
        )
    )

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """The component as a `defs.yaml` describes it."""
        refuse_misspelt_variables(variables_read(context.path))
        with beginning_at(context.project_root):
            return super().load(attributes, context)

    @field_validator("duckdb_path")
    @classmethod
    def _resolve_database(cls, path: str) -> str:
        return database_address("duckdb_path", path)

    @field_validator("pace_url")
    @classmethod
    def _names_a_postgres(cls, url: str) -> str:
        return postgres_url("pace_url", url) if url else ""

    @field_validator("read_copy_path", "report_path")
    @classmethod
    def _resolve_published(cls, path: str, info: ValidationInfo) -> str:
        lake = info.data.get("duckdb_path", "").startswith(LAKE_SCHEME)
        return published_path(info.field_name or "", path, of_lake=lake) if path else ""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_impossible_settings(
        cls, attributes: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        try:
            component = handler(attributes)
        except ValidationError as error:
            raise explained(error, cls.model_fields) from None
        for name, field in cls.model_fields.items():
            limits = field.json_schema_extra
            minimum = limits.get("minimum") if isinstance(limits, dict) else None
            if isinstance(minimum, (int, float)) and not (
                minimum <= (value := getattr(component, name)) < math.inf
            ):
                raise ConfigError(name, f"is {value}; at least {minimum:g} works.")
        if is_same_file(component.duckdb_path, component.read_copy_path):
            raise ConfigError(
                "read_copy_path",
                f"{component.read_copy_path} is the database itself, which a copy in its place "
                "would undo loads of. Take another name.",
            )
        if any(
            is_same_file(component.report_path, each)
            for each in (component.duckdb_path, component.read_copy_path)
            if each
        ):
            raise ConfigError(
                "report_path", f"{component.report_path} is a database. Take another name."
            )
        if component.is_lake:
            refuse_local_data("lake_data", component.lake_data)
        build_partitions_def(component.start_date, component.timezone)
        Names(component.account)
        if component.refresh_cron and not is_valid_cron(component.refresh_cron):
            raise ConfigError("refresh_cron", f"'{component.refresh_cron}' is no cron expression.")
        return component

    @property
    def names(self) -> Names:
        """What things of this account are called in Dagster."""
        return Names(self.account)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the catalogue is kept: one per account and API host."""
        host = urlsplit(self.base_url).hostname
        whose = f"{self.account}@{host}" if self.account else host
        return DefsStateConfig.from_args(self.defs_state, default_key=f"DixaAnalytics[{whose}]")

    @property
    def is_lake(self) -> bool:
        """Whether the database is one that many machines write."""
        return self.duckdb_path.startswith(LAKE_SCHEME)

    def beside(self, name: str) -> Path:
        """The place of a file that goes with the database: beside it, or in the working folder."""
        return Path.cwd() / name if self.is_lake else Path(self.duckdb_path).with_name(name)

    @property
    def report_file(self) -> Path | None:
        """Where the report is written; None for a lake, unless somebody says where."""
        if self.report_path or self.is_lake:
            return Path(self.report_path) if self.report_path else None
        return self.beside(f"{Path(self.duckdb_path).stem}_report.html")

    @property
    def api_key(self) -> str:
        """The token, from the environment; empty if it is not there."""
        return os.environ.get(self.api_key_variable, "")

    def get_asset_spec(self, asset: DixaAsset) -> dg.AssetSpec:
        """How an asset is shown: its key, group, tags, owners, description, metadata and so on.

        Override it to change more than `translation` in YAML can. Sensors, schedule, checks and
        other assets follow a key that is changed here.
        """
        spec = asset.spec.replace_attributes(owners=list(self.owners))
        return self.translation(spec, asset) if self.translation else spec

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Definitions from the catalogue version this process is pinned to, or the latest."""
        _refuse_twins(context.component_tree.get_all_components(of_type=DixaAnalytics))
        storage, key = DefsStateStorage.get(), self.defs_state_config.key
        if storage is None:
            return self.build_defs_from_state(context, None)
        version = state.pin(key)
        is_stored = self.defs_state_config.management_type is VERSIONED
        if version and is_stored and state.load(storage, key, version) is None:
            # The sensor, which is all there is then, fetches what was lost.
            return self.build_definitions(Catalogue())
        return super().build_defs(context)

    def write_state_to_path(self, state_path: Path) -> None:
        """Fetch the catalogue, for `dg utils refresh-defs-state`; the sensor does it by itself."""
        storage = DefsStateStorage.get()
        known = state.load(storage, self.defs_state_config.key) if storage else None
        known = known or Catalogue()
        with self.build_dixa(self.api_key, known.adapted).client() as client:
            catalogue, _ = fetch_catalogue(client, known)
        state.write(state_path, catalogue)

    def build_defs_from_state(
        self, context: dg.ComponentLoadContext, state_path: Path | None
    ) -> dg.Definitions:
        """Assets, sensors, schedule and resources for the catalogue at `state_path`."""
        return self.build_definitions(state.read(state_path) if state_path else Catalogue())

    def build_definitions(self, catalogue: Catalogue) -> dg.Definitions:
        """Everything for one catalogue; with an empty one, what it takes to fetch the first."""
        self._refuse_what_takes_one_machine(run_launcher())
        fetching = dg.Definitions(
            sensors=[
                build_catalogue_sensor(
                    names=self.names,
                    loaded=catalogue,
                    state_key=self.defs_state_config.key,
                    interval_seconds=self.catalogue_refresh_seconds,
                    default_status=self._sensor_status,
                    warehouse=self.build_warehouse(wait_seconds=1.0),
                    mistakes=self.mistakes,
                )
            ],
            resources=self.build_resources(
                dg.EnvVar(self.api_key_variable), adapted=catalogue.adapted
            ),
        )
        if not catalogue.entries:
            return fetching
        wanted = [entry for entry in catalogue.entries if self._is_wanted(entry)]
        self._refuse_what_is_not_meant(catalogue, wanted)
        return dg.Definitions.merge(fetching, self._build_loading(catalogue, wanted))

    def _build_loading(self, catalogue: Catalogue, wanted: Sequence[Entry]) -> dg.Definitions:
        """The assets of the wanted entries, and what loads and publishes them."""
        names = self.names
        setup = self._setup(catalogue.adapted)
        partitions_def = build_partitions_def(self.start_date, self.timezone)
        daily = DailyAssets(
            catalogue,
            names=names,
            partitions_def=partitions_def,
            setup=setup,
            choices=Choices(
                self.filters,
                self.breakdowns,
                setup.required_filters,
                is_end_exclusive=catalogue.adapted.get("period_end") == "exclusive",
                is_by_primary=catalogue.adapted.get("period_timestamp") != "another",
            ),
            days_per_run=self.days_per_run,
        )
        tables, filters = describe_catalogue(catalogue, names), describe_filters(catalogue, names)
        view, entries = describe_metrics_daily(wanted, names), [*map(daily.describe, wanted)]
        records = [each.spec.key for each in entries if each.schema == "dixa_records"]
        shown = [view.spec.key, *records]
        has_plotly = self.report and find_spec("plotly") is not None
        report = self.report_file if has_plotly else None
        published = [describe_report(names, shown)] if report else []
        if self.read_copy_path:
            copied = shown + [each.spec.key for each in (*tables, *filters)]
            published.append(describe_read_copy(self.read_copy_path, names, copied))
        order = [describe_lake(names)] if self.is_lake else []
        specs = Specs([*tables, *filters, view, *entries, *published, *order], self.get_asset_spec)

        assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
            build_catalogue_assets(catalogue, names, specs),
            *(build_filter_asset(*each, names, specs) for each in catalogue.filter_names.items()),
            *(daily.build(entry, specs) for entry in wanted),
            specs[view.schema, view.name],
        ]
        if report:
            assets.append(build_report_asset(report, self.setup, names, specs))
        if self.read_copy_path:
            assets.append(build_read_copy_asset(Path(self.read_copy_path), names, specs))
        if self.is_lake:
            assets.append(build_lake_asset(names, specs))

        live = {specs.key(entry.schema, entry.name): entry for entry in wanted if entry.is_live}
        undated = {
            specs.key(each.schema, each.name): Undated(f"{each.schema}/{each.name}", version)
            for each, version in (
                *((table, catalogue.version) for table in tables),
                *((values, "") for values in filters),
            )
        }
        filter_keys = [specs.key(each.schema, each.name) for each in filters]
        published_keys = [specs.key(each.schema, each.name) for each in published]
        order_keys = [specs.key(each.schema, each.name) for each in order]
        load = dg.define_asset_job(
            names.of("dixa_load"),
            selection=dg.AssetSelection.assets(*live, *undated, *published_keys, *order_keys),
            # Loads wait for the API, not for a core, so one process takes a run's steps in turn.
            executor_def=dg.in_process_executor,
            tags=LONGEST_RUN,
            description="What sensors and schedule run: the assets that each of them names.",
        )
        sensors = [
            build_history_sensor(
                names=names,
                job=load,
                daily=live,
                undated=undated,
                partitions_def=partitions_def,
                history_days=self.history_days,
                default_status=self._sensor_status,
                warehouse=self.build_warehouse(wait_seconds=5.0),
            )
        ]
        if published:
            sensors.append(
                build_publish_sensor(
                    names=names,
                    job=load,
                    keys=published_keys,
                    loaded={*undated, *live},
                    changed_at=self.build_warehouse().changed_at,
                    default_status=self._sensor_status,
                )
            )
        if os.environ.get("DIXA_ALERT_WEBHOOK"):
            own = {*undated, *live, *published_keys, *order_keys}
            sensors.append(
                build_failure_sensor(names=names, own=own, default_status=self._sensor_status)
            )
        schedules = []
        if self.refresh_cron:
            schedules.append(
                build_daily_schedule(
                    name=names.of("dixa_daily_refresh"),
                    job=load,
                    cron=self.refresh_cron,
                    daily_keys=tuple(live),
                    other_keys=filter_keys,
                    partitions_def=partitions_def,
                    refresh_days=self.refresh_days,
                    default_status=self._schedule_status,
                )
            )
        schedules += [
            build_lake_schedule(
                name=names.of("dixa_lake_order"),
                job=load,
                key=key,
                cron=LAKE_CRON,
                timezone=self.timezone,
                default_status=self._schedule_status,
            )
            for key in order_keys
        ]
        return dg.Definitions(assets=assets, sensors=sensors, schedules=schedules, jobs=[load])

    @property
    def _sensor_status(self) -> dg.DefaultSensorStatus:
        return dg.DefaultSensorStatus(self.default_sensor_status)

    @property
    def _schedule_status(self) -> dg.DefaultScheduleStatus:
        return dg.DefaultScheduleStatus(self.default_schedule_status)

    def _refuse_what_takes_one_machine(self, launcher: str) -> None:
        """Raise for what runs on other machines would not share."""
        if launcher in ON_THIS_MACHINE:
            return
        where = f"runs go to other machines ({launcher})"
        if not self.is_lake:
            raise ConfigError(
                "duckdb_path",
                f"{where}, and each of them would fill a file of its own. Name a lake, "
                "ducklake:postgres:dbname=… host=….",
            )
        if not self.pace_url:
            raise ConfigError(
                "pace_url",
                f"{where}, and each of them would take the whole pace of the token. Name the "
                "Postgres that they share, postgresql://….",
            )

    def _is_wanted(self, entry: Entry) -> bool:
        return entry.id not in self.exclude and (not self.include or entry.id in self.include)

    def _refuse_what_is_not_meant(self, catalogue: Catalogue, wanted: Sequence[Entry]) -> None:
        """Raise when nothing would be loaded, or when a field would be stored that must not be."""
        mistakes = self.mistakes(catalogue)
        if not wanted:
            nothing = Mistake("include", "is excluded altogether, so nothing is left to load.")
            unmeant = [each for each in mistakes if each.setting == "include"] or [nothing]
        else:
            unmeant = [
                each for each in mistakes if each.setting == "exclude_fields" and each.is_sure
            ]
        if unmeant:
            raise ConfigError.of(each[:2] for each in unmeant)

    def mistakes(self, catalogue: Catalogue, client: DixaClient | None = None) -> list[Mistake]:
        """Every name in the settings that nothing has: the setting, and what is wrong with it.

        Args:
            catalogue: What Dixa has, and had.
            client: Asked for the values of the attributes that filters name; None: any may be.
        """
        attributes = {name for each in self.filters.values() for name in each}
        values = {
            name: {item.value for item in fetch_filter_values(client, name)}
            for name in sorted(attributes & {*catalogue.filter_names})
            if client
        }
        found = [
            *unknown_names(
                catalogue,
                include=self.include,
                exclude=self.exclude,
                filters=self.filters,
                breakdowns=self.breakdowns,
                required_filter=self.required_filter,
                values=values,
            )
        ]
        fields = [*unknown_fields(catalogue, self.exclude_fields)]
        if fields:
            # Rows may have fields that the catalogue does not tell of.
            stored = self.build_warehouse(wait_seconds=1.0).fields()
            fields = [*unknown_fields(catalogue, self.exclude_fields, stored)]
        return found + fields

    @property
    def setup(self) -> Setup:
        """What checks and the report must know of the configuration."""
        return self._setup({})

    def _setup(self, adapted: Mapping[str, str]) -> Setup:
        metrics = self.required_filter or adapted.get("required_filter", "")
        records = self.required_filter or adapted.get("required_filter_of_records", metrics)
        return Setup(
            self.timezone,
            self.start_date,
            self.history_days,
            self.exclude_fields,
            {"metric": metrics, "record": records},
        )

    def build_resources(
        self, api_key: str, *, adapted: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The resources, with the key or with the name of the variable that holds it.

        Args:
            api_key: The token, or Dagster's reference to its variable.
            adapted: What the account was found to need, by setting.
        """
        adapted = adapted or {}
        dixa, warehouse = self.build_dixa(api_key, adapted), self._build_warehouse_resource()
        loader = LoaderResource(
            dixa=dixa,
            warehouse=warehouse,
            at_a_time=self.windows_at_a_time,
            days_alone=adapted.get("days_together") == "1",
            longest_period=int(adapted.get("longest_period", 0)),
        )
        resources = {API: dixa, WAREHOUSE: warehouse, LOADER: loader}
        return {self.names.of(name): resource for name, resource in resources.items()}

    def build_dixa(self, api_key: str, adapted: Mapping[str, str] | None = None) -> DixaResource:
        """The API resource alone."""
        adapted = adapted or {}
        return DixaResource(
            api_key=api_key,
            api_key_variable=self.api_key_variable,
            base_url=self.base_url,
            api_version=self.api_version,
            auth_scheme=self.auth_scheme or adapted.get("auth_scheme", ""),
            requests_per_second=self.requests_per_second,
            burst=self.burst,
            page_size=int(adapted.get("page_size", PAGE_SIZES[0])),
            pace_url=self.pace_url,
        )

    def build_warehouse(self, *, wait_seconds: float | None = None) -> Warehouse:
        """The warehouse as loads see it."""
        return self._build_warehouse_resource(wait_seconds).create_resource()

    def _build_warehouse_resource(self, wait_seconds: float | None = None) -> WarehouseResource:
        return WarehouseResource(
            duckdb=DuckDBResource(
                database=self.duckdb_path,
                connection_config={"storage_compatibility_version": STORAGE_VERSION},
            ),
            timezone=self.timezone,
            account=self.account,
            host=urlsplit(self.base_url).hostname or "",
            wait_seconds=self.database_wait_seconds if wait_seconds is None else wait_seconds,
            lake_data=self.lake_data,
        )


def _refuse_twins(components: Sequence[DixaAnalytics]) -> None:
    """Refuse two instances that would be one in Dagster, or in one database."""
    for number, one in enumerate(components):
        for other in components[:number]:
            if one.account == other.account:
                named = f"'{one.account}'" if one.account else "the empty name"
                raise ConfigError(
                    "account",
                    f"{named} is taken twice in this project. Give each DixaAnalytics an "
                    "account of its own, which becomes the first part of its asset keys.",
                )
            if one.is_lake and one.lake_data == other.lake_data:
                raise ConfigError(
                    "lake_data",
                    f"{one.lake_data} is where the accounts '{other.account}' and '{one.account}' "
                    "keep their rows. Each lake needs its own.",
                )
            if is_same_file(one.duckdb_path, other.duckdb_path):
                raise ConfigError(
                    "duckdb_path",
                    f"{one.duckdb_path} is the database of the accounts '{other.account}' and "
                    f"'{one.account}'. Each account needs its own.",
                )


def build_definitions(**attributes: Any) -> dg.Definitions:
    """What the component gives, in plain Python: the attributes are those of `DixaAnalytics`.

        defs = build_definitions(timezone="Europe/Copenhagen", duckdb_path="data/dixa.duckdb")

    The catalogue is the one that Dagster's state storage holds for the run, or its latest; the
    sensor in the definitions fetches the first.
    """
    analytics = DixaAnalytics(**attributes)
    with warnings.catch_warnings():
        # Dagster leaves these out where it loads a component: the version is pinned.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return analytics.build_definitions(state.pinned(analytics.defs_state_config.key))


def variables_read(folder: Path) -> set[str]:
    """The environment variables that the component in a folder, and what goes with it, read."""
    return variables_in(path.read_text() for path in folder.rglob("*.yaml")) | VARIABLES


def project_tree() -> dg.ComponentTree:
    """The Dagster project of the working folder; outside of any, this one."""
    for place in (Path.cwd(), HOUSE.parent):
        with suppress(DagsterError, CheckError):
            return dg.ComponentTree.for_project(place)
    if "DIXA_DUCKDB_PATH" not in os.environ:
        raise ConfigError("project", f"{Path.cwd()} is in no project of `dg`'s; go to yours.")
    # An installed wheel is a code location by itself, configured by the environment alone.
    module = import_module("dixa_assets.defs")
    return dg.ComponentTree.from_module(defs_module=module, project_root=Path.cwd())


def load_components(account: str | None = None) -> Sequence[DixaAnalytics]:
    """Every instance in the project, or the account's, as YAML and the environment configure it."""
    try:
        found = project_tree().get_all_components(of_type=DixaAnalytics)
    except Exception as error:
        raise explained(error, DixaAnalytics.model_fields) from None
    _refuse_twins(found)
    chosen = [one for one in found if account in (None, one.account)]
    if not chosen:
        accounts = [one.account for one in found]
        what = f"no account '{account}'{hint(account, accounts)}" if account else "none"
        raise ConfigError("DixaAnalytics", f"this project has {what}")
    return chosen


def load_component() -> DixaAnalytics:
    """The first instance in the project."""
    return load_components()[0]
