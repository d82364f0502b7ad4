"""The settings of schedules, sensors, runs and published files, declared once.

`DixaAnalytics` inherits them. `Account` passes them to the builders of definitions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ConfigError
from dixa_assets.marts.builder import Marts
from dixa_assets.marts.roles import RECORD_ROLES
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.options import Options
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.orchestration.naming import DixaAsset, Names
from dixa_assets.settings.misspelt import Mistake, hint
from dixa_assets.settings.paths import folder_address
from dixa_assets.warehouse.warehouse import Warehouse


class OrchestrationSettings(BaseModel):
    """When assets are loaded, how many days a run takes, and what is published."""

    model_config = ConfigDict(frozen=True)

    catalogue_refresh_seconds: int = Field(
        default=300, description="Seconds between two refreshes of the catalogue."
    )
    refresh_days: int = Field(
        default=7, description="Trailing days that the daily schedule reloads."
    )
    refresh_cron: str = Field(
        # No zone changes its clocks at this hour, so the hour occurs once a day.
        default="30 5 * * *",
        description="When the trailing days are reloaded, in the account's zone; empty: never.",
    )
    days_per_run: int = Field(
        default=0,
        description="Days of a backfill per run, so that workers share it; 0: one run for all.",
    )
    windows_at_a_time: int = Field(default=6, description="Requests in flight at most.")
    report: bool = Field(default=True, description="Whether the HTML report is an asset.")
    marts: bool | Mapping[str, str] = Field(
        default=True,
        description="Whether views answer the questions of a support team; or the records behind "
        "some of their roles, if Dixa calls them otherwise.",
        examples=[{"first_responses": "first_reply_time"}],
    )
    default_sensor_status: Literal["RUNNING", "STOPPED"] = Field(
        default="RUNNING", description="Whether the sensors run from the start."
    )
    default_schedule_status: Literal["RUNNING", "STOPPED"] = Field(
        default="RUNNING", description="Whether the schedule runs from the start."
    )
    parquet_path: str = Field(
        default="",
        description="A folder, or `s3://…`, for a copy of every table as Parquet; empty: none.",
    )
    dbt_path: str = Field(
        default="",
        description="The folder of a dbt project that gets sources.yml and profiles.yml; empty: "
        "none.",
    )
    owners: Sequence[str] = Field(
        default=(), description="Owners of every asset: e-mail addresses, or 'team:name'."
    )

    @field_validator("parquet_path", "dbt_path")
    @classmethod
    def _resolve_folder(cls, path: str, info: ValidationInfo) -> str:
        return folder_address(info.field_name or "", path) if path else ""

    @field_validator("marts")
    @classmethod
    def _require_roles(cls, marts: bool | Mapping[str, str]) -> bool | Mapping[str, str]:
        for role in marts if isinstance(marts, Mapping) else ():
            if role not in RECORD_ROLES:
                raise ConfigError("marts", f"'{role}' is not a role{hint(role, RECORD_ROLES)}")
        return marts

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """`default_sensor_status` as Dagster's type."""
        return dg.DefaultSensorStatus(self.default_sensor_status)

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        """`default_schedule_status` as Dagster's type."""
        return dg.DefaultScheduleStatus(self.default_schedule_status)


class OpenWarehouse(Protocol):
    """Opens the account's warehouse."""

    def __call__(self, *, wait_seconds: float | None = None) -> Warehouse:
        """Open the warehouse.

        Args:
            wait_seconds: Seconds to wait for another user of the database.
        """
        ...


@dataclass(frozen=True)
class Account:
    """One account, for the builders of its definitions.

    Args:
        names: The names that it uses in Dagster.
        settings: Schedules, sensors, runs and published files.
        options: How its entries are loaded.
        state_key: The key of its catalogue in Dagster's state storage.
        open_warehouse: Opens its database.
        database: The path of the database, or the address of a lake.
        read_copy: The path of the read copy; None: there is none.
        report: The path of the HTML report; None: there is none.
        translate: Applies the user's changes to an asset's spec.
        find_unknown_names: Finds names in the settings that a catalogue does not have.
    """

    names: Names
    settings: OrchestrationSettings
    options: Options
    state_key: str
    open_warehouse: OpenWarehouse
    database: str
    read_copy: Path | None
    report: Path | None
    translate: Callable[[DixaAsset], dg.AssetSpec]
    find_unknown_names: Callable[[Catalogue, DixaClient | None], list[Mistake]]

    @property
    def is_lake(self) -> bool:
        """True if the database is a lake."""
        return self.database.startswith(LAKE_SCHEME)

    def marts(self, catalogue: Catalogue) -> Marts | None:
        """The marts of a catalogue; None if the setting is false."""
        if self.settings.marts is False:
            return None
        kept = replace(catalogue, filter_names=self.options.kept_filters(catalogue))
        chosen = self.options.settings
        return Marts.of(
            kept, chosen.wants, self.settings.marts, week_starts_on=chosen.week_starts_on
        )
