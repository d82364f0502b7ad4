"""`DixaAnalytics`: the attributes of an account, their validation, and its stored catalogue.

Attributes about loads, the API, the database and Dagster are declared in `model/options.py`,
`api/settings.py`, `warehouse/settings.py` and `orchestration/settings.py`. Loading the component
uses no network: the catalogue sensor stores the catalogue in Dagster's state storage.
`orchestration/build.py` builds the definitions.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dixa_assets.api.addresses import checked_base_url
from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.api.client import DixaClient
from dixa_assets.api.requests import fetch_filter_values
from dixa_assets.api.settings import ApiSettings
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.options import HASH_KEY, Adaptation, LoadSettings, Options
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.orchestration import state
from dixa_assets.orchestration.alert import alert_webhook
from dixa_assets.orchestration.build import build_account
from dixa_assets.orchestration.dagster_internals import (
    DefsStateManagementType,
    DefsStateStorage,
    is_valid_cron,
    run_launcher,
)
from dixa_assets.orchestration.frames import FRAMES, FramesIOManager
from dixa_assets.orchestration.naming import DixaAsset, Names
from dixa_assets.orchestration.partitions import build_partitions_def
from dixa_assets.orchestration.resources import (
    API,
    LOADER,
    WAREHOUSE,
    DixaResource,
    LoaderResource,
    WarehouseResource,
)
from dixa_assets.orchestration.settings import Account, OrchestrationSettings
from dixa_assets.scaffold import DixaScaffolder
from dixa_assets.settings import paths
from dixa_assets.settings.conflicts import (
    refuse_conflicts,
    refuse_duplicate_accounts,
    refuse_remote_runs,
)
from dixa_assets.settings.messages import refuse_misspelt_variables, to_config_error
from dixa_assets.settings.misspelt import Mistake, refuse_mistakes, unknown_names
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse

VERSIONED = DefsStateManagementType.VERSIONED_STATE_STORAGE
# Pydantic's `ge` does not work here: Dagster also applies it to templates, which are strings.
MINIMUM: Mapping[str, float] = {
    "requests_per_second": 0.01,
    "burst": 1,
    "catalogue_refresh_seconds": 5,
    "history_days": 0,
    "refresh_days": 1,
    "windows_at_a_time": 1,
    "database_wait_seconds": 0,
    "days_per_run": 0,
    "keep_days": 0,
}
# The checks of addresses. None of them shows an address, which may hold a password.
ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "base_url": checked_base_url,
    "duckdb_path": paths.database_address,
    "lake_data": paths.lake_place,
    "pace_url": paths.postgres_url,
}


@dg.scaffold_with(DixaScaffolder)
class DixaAnalytics(
    dg.StateBackedComponent,
    LoadSettings,
    ApiSettings,
    WarehouseSettings,
    OrchestrationSettings,
    dg.Model,
    dg.Resolvable,
):
    """Every metric and record of Dixa's Analytics API as a daily-partitioned DuckDB table."""

    duckdb_path: str = Field(
        default="data/dixa.duckdb",
        validate_default=True,
        description="The database file; a relative path begins at the project's folder. Or the "
        "address of a lake, which many machines can write: `ducklake:postgres:dbname=… host=…`.",
    )
    read_copy_path: str = Field(
        default="",
        description="The read copy, which is renewed after loads; empty: none.",
    )
    report_path: str = Field(
        default="",
        description="The HTML report; empty: next to the database file, and none for a lake.",
    )
    translation: Annotated[
        TranslationFn[DixaAsset] | None,
        TranslationFnResolver(template_vars_for_translation_fn=lambda asset: {"asset": asset}),
    ] = Field(
        default=None,
        description="Attributes of every asset; `asset.id`, `asset.schema` and `spec` can be used.",
    )
    # The folder of its `defs.yaml`.
    _folder: Path | None = PrivateAttr(None)
    defs_state: ResolvedDefsStateConfig = Field(
        default=DefsStateConfigArgs(
            management_type=VERSIONED,
            # Otherwise an outage of the API would empty the code location.
            refresh_if_dev=False,
        )
    )

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Load the component of a `defs.yaml`."""
        refuse_misspelt_variables(context.path)
        with paths.beginning_at(context.project_root):
            component = super().load(attributes, context)
        component._folder = context.path
        return component

    @field_validator(*ADDRESSES)
    @classmethod
    def _check_address(cls, address: str, info: ValidationInfo) -> str:
        return ADDRESSES[info.field_name or ""](address)

    @field_validator("read_copy_path", "report_path")
    @classmethod
    def _resolve_published(cls, path: str, info: ValidationInfo) -> str:
        lake = info.data.get("duckdb_path", "").startswith(LAKE_SCHEME)
        return paths.published_path(info.field_name or "", path, of_lake=lake) if path else ""

    @field_validator(*MINIMUM)
    @classmethod
    def _require_minimum(cls, value: float, info: ValidationInfo) -> float:
        minimum = MINIMUM[info.field_name or ""]
        if not minimum <= value < math.inf:
            raise ConfigError(info.field_name or "", f"is {value}; at least {minimum:g} works.")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_impossible_settings(
        cls, attributes: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        try:
            component = handler(attributes)
        except ValidationError as error:
            raise to_config_error(error, cls.model_fields) from None
        refuse_conflicts(component)
        alert_webhook()
        build_partitions_def(component.start_date, component.timezone)
        Names(component.account)
        if component.refresh_cron and not is_valid_cron(component.refresh_cron):
            raise ConfigError(
                "refresh_cron", f"'{component.refresh_cron}' is not a cron expression."
            )
        return component

    @property
    def names(self) -> Names:
        """The names that this account uses in Dagster."""
        return Names(self.account)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the catalogue is stored: one per account and API host."""
        host = urlsplit(self.base_url).hostname
        owner = f"{self.account}@{host}" if self.account else host
        return DefsStateConfig.from_args(self.defs_state, default_key=f"DixaAnalytics[{owner}]")

    @property
    def is_lake(self) -> bool:
        """True if the database is a lake, which many machines write."""
        return self.duckdb_path.startswith(LAKE_SCHEME)

    def next_to_database(self, name: str) -> Path:
        """The path of a file next to the database, or in the working folder for a lake."""
        return Path.cwd() / name if self.is_lake else Path(self.duckdb_path).with_name(name)

    @property
    def report_file(self) -> Path | None:
        """The path of the report; None for a lake without `report_path`."""
        if self.report_path:
            return Path(self.report_path)
        if self.is_lake:
            return None
        return self.next_to_database(f"{Path(self.duckdb_path).stem}_report.html")

    @property
    def catalogue_file(self) -> Path | None:
        """The catalogue that is committed with the project; None outside of a project."""
        return self._folder / state.COMMITTED if self._folder else None

    @property
    def api_key(self) -> str:
        """The token from the environment; empty if the variable is not set."""
        return os.environ.get(self.api_key_variable, "")

    def get_asset_spec(self, asset: DixaAsset) -> dg.AssetSpec:
        """The spec of an asset: its key, group, tags, owners, description, metadata and so on.

        Override it to change more than `translation` in YAML can. Sensors, schedules, checks
        and other assets use a changed key.
        """
        spec = asset.spec.replace_attributes(owners=[*self.owners]) if self.owners else asset.spec
        return self.translation(spec, asset) if self.translation else spec

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build definitions of the pinned catalogue version, or of the latest version."""
        refuse_duplicate_accounts(context.component_tree.get_all_components(of_type=DixaAnalytics))
        storage, key = DefsStateStorage.get(), self.defs_state_config.key
        if storage is None:
            return self.build_defs_from_state(context, None)
        version = state.pin(key)
        is_versioned = self.defs_state_config.management_type is VERSIONED
        if version and is_versioned and state.load(storage, key, version) is None:
            # The stored version is lost. The sensor fetches the catalogue again.
            return self.build_defs_from_state(context, None)
        return super().build_defs(context)

    def write_state_to_path(self, state_path: Path) -> None:
        """Fetch the catalogue, for `dg utils refresh-defs-state`."""
        storage, key = DefsStateStorage.get(), self.defs_state_config.key
        known = (state.load(storage, key) if storage else None) or Catalogue()
        with self.build_dixa(self.api_key, Adaptation.of(known.facts)).client() as client:
            catalogue, _ = fetch_catalogue(client, known)
        state.write(state_path, catalogue)

    def build_defs_from_state(
        self, context: dg.ComponentLoadContext, state_path: Path | None
    ) -> dg.Definitions:
        """Build definitions of the catalogue at `state_path`, or of the one in the project."""
        committed = context.path / state.COMMITTED
        path = state_path or (committed if committed.exists() else None)
        return self.build_definitions(state.read(path) if path else Catalogue())

    def build_definitions(self, catalogue: Catalogue) -> dg.Definitions:
        """Build all definitions of a catalogue; for an empty one, only the catalogue sensor."""
        refuse_remote_runs(self, run_launcher())
        if catalogue.entries:
            refuse_mistakes(
                self.find_unknown_names(catalogue),
                selects_nothing=not any(map(self.wants, catalogue.entries)),
            )
        options = self.options(catalogue)
        account = Account(
            self.names,
            self,
            options,
            state_key=self.defs_state_config.key,
            open_warehouse=self.build_warehouse,
            database=self.duckdb_path,
            read_copy=Path(self.read_copy_path) if self.read_copy_path else None,
            report=self.report_file if self.report else None,
            translate=self.get_asset_spec,
            find_unknown_names=self.find_unknown_names,
        )
        resources = self.build_resources(dg.EnvVar(self.api_key_variable), options.adaptation)
        return build_account(account, catalogue, resources)

    def options(self, catalogue: Catalogue) -> Options:
        """How the entries of a catalogue are loaded."""
        return Options(self, Adaptation.of(catalogue.facts), os.environ.get(HASH_KEY, ""))

    def find_unknown_names(
        self, catalogue: Catalogue, client: DixaClient | None = None
    ) -> list[Mistake]:
        """Every name in the settings that the catalogue does not have.

        Args:
            catalogue: All entries that Dixa lists or has listed.
            client: Fetches the values of the attributes in `filters`. None: values are not checked.
        """
        attributes = {name for each in self.filters.values() for name in each}
        values = {
            name: {item.value for item in fetch_filter_values(client, name)}
            for name in sorted(attributes & {*catalogue.filter_names})
            if client
        }
        return [*unknown_names(catalogue, self, values)]

    def build_resources(self, api_key: str, adaptation: Adaptation | None = None) -> dict[str, Any]:
        """Build the resources, by name.

        Args:
            api_key: The token, or Dagster's reference to its variable.
            adaptation: What the probe found.
        """
        dixa, warehouse = self.build_dixa(api_key, adaptation), self._warehouse_resource()
        loader = LoaderResource(dixa=dixa, warehouse=warehouse, threads=self.windows_at_a_time)
        frames = FramesIOManager(warehouse=warehouse)
        resources = {API: dixa, WAREHOUSE: warehouse, LOADER: loader, FRAMES: frames}
        return {self.names.of(name): resource for name, resource in resources.items()}

    def build_dixa(self, api_key: str, adaptation: Adaptation | None = None) -> DixaResource:
        """Build the API resource alone."""
        return DixaResource.of(self, api_key, adaptation or Adaptation())

    def build_warehouse(self, *, wait_seconds: float | None = None) -> Warehouse:
        """Build the warehouse; `wait_seconds` replaces the setting `database_wait_seconds`."""
        return self._warehouse_resource(wait_seconds).create_resource()

    def _warehouse_resource(self, wait_seconds: float | None = None) -> WarehouseResource:
        host = urlsplit(self.base_url).hostname or ""
        return WarehouseResource.of(self, self.duckdb_path, host, wait_seconds)


def build_definitions(**attributes: Any) -> dg.Definitions:
    """Build the definitions in plain Python; the attributes are those of `DixaAnalytics`.

        defs = build_definitions(timezone="Europe/Copenhagen", duckdb_path="data/dixa.duckdb")

    The catalogue is the version that the run is pinned to, or the latest in Dagster's state
    storage. The sensor in the definitions fetches the first version.
    """
    analytics = DixaAnalytics(**attributes)
    with warnings.catch_warnings():
        # Dagster suppresses these warnings when it loads a component.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return analytics.build_definitions(state.pinned(analytics.defs_state_config.key))
