"""The component instances of the project in the working folder, for commands and launchers."""

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import dagster as dg
from dagster import DagsterError
from dotenv import load_dotenv

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import state
from dixa_assets.orchestration.dagster_internals import CheckError
from dixa_assets.settings.conflicts import refuse_duplicate_accounts
from dixa_assets.settings.messages import to_config_error
from dixa_assets.settings.misspelt import hint
from dixa_assets.warehouse.warehouse import Warehouse

PACKAGE = Path(__file__).parent


def read_env_file() -> None:
    """Read the settings in `.env` of the working folder, as Dagster does."""
    try:
        load_dotenv(Path.cwd() / ".env", override=True)
    except (OSError, ValueError) as error:
        raise ConfigError(".env", f"cannot be read ({error}).") from None


def project_tree() -> dg.ComponentTree:
    """The Dagster project of the working folder; outside of any project, this one."""
    for place in (Path.cwd(), PACKAGE.parent):
        with suppress(DagsterError, CheckError):
            return dg.ComponentTree.for_project(place)
    if "DIXA_DUCKDB_PATH" not in os.environ:
        raise ConfigError(
            "project",
            f"{Path.cwd()} is not in a `dg` project. Change to the folder of your project.",
        )
    # An installed wheel is a code location that environment variables configure.
    module = import_module("dixa_assets.defs")
    return dg.ComponentTree.from_module(defs_module=module, project_root=Path.cwd())


def load_components(account: str | None = None) -> Sequence[DixaAnalytics]:
    """Every instance in the project, or only the one with the name `account`."""
    try:
        found = project_tree().get_all_components(of_type=DixaAnalytics)
    except Exception as error:
        raise to_config_error(error, DixaAnalytics.model_fields) from None
    refuse_duplicate_accounts(found)
    selected = [component for component in found if account in (None, component.account)]
    if not selected:
        accounts = [component.account for component in found]
        lacks = f"no account '{account}'{hint(account, accounts)}" if account else "no instance."
        raise ConfigError("DixaAnalytics", f"this project has {lacks}")
    return selected


def known_catalogue(component: DixaAnalytics, warehouse: Warehouse) -> Catalogue:
    """The catalogue in Dagster's state storage, or else the one in the database."""
    with state.home_instance() as instance:
        storage = instance.defs_state_storage if instance else None
        known = state.load(storage, component.defs_state_config.key) if storage else None
    return known or warehouse.catalogue()


def load_component() -> DixaAnalytics:
    """The first instance in the project."""
    return load_components()[0]
