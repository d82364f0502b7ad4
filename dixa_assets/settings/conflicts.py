"""Settings that are valid alone and cannot work together, in one instance or in two."""

from collections.abc import Sequence
from typing import Protocol

from dixa_assets.errors import ConfigError
from dixa_assets.settings.paths import is_same_file, refuse_local_data

# Run launchers whose runs see the files of the code location.
ON_THIS_MACHINE = ("", "DefaultRunLauncher", "SyncInMemoryRunLauncher")


class Instance(Protocol):
    """The attributes of `DixaAnalytics` that can conflict."""

    account: str
    duckdb_path: str
    lake_data: str
    pace_url: str
    read_copy_path: str
    report_path: str

    @property
    def is_lake(self) -> bool:
        """True if the database is a lake."""
        ...


def refuse_conflicts(one: Instance) -> None:
    """Raise if attributes of one instance conflict."""
    if is_same_file(one.duckdb_path, one.read_copy_path):
        raise ConfigError(
            "read_copy_path",
            f"{one.read_copy_path} is the database itself. A copy there would undo loads. Choose "
            "another name.",
        )
    databases = filter(None, (one.duckdb_path, one.read_copy_path))
    if any(is_same_file(one.report_path, each) for each in databases):
        raise ConfigError("report_path", f"{one.report_path} is a database. Choose another name.")
    if one.is_lake:
        refuse_local_data("lake_data", one.lake_data)


def refuse_twins(instances: Sequence[Instance]) -> None:
    """Raise if two instances would be one in Dagster, or share a database."""
    for number, one in enumerate(instances):
        for other in instances[:number]:
            if one.account == other.account:
                named = f"'{one.account}'" if one.account else "the empty name"
                raise ConfigError(
                    "account",
                    f"{named} occurs twice in this project. Give each DixaAnalytics an account of "
                    "its own, which becomes the first part of its asset keys.",
                )
            accounts = f"the accounts '{other.account}' and '{one.account}'"
            if one.is_lake and one.lake_data == other.lake_data:
                raise ConfigError(
                    "lake_data",
                    f"{one.lake_data} holds the rows of {accounts}. Each lake needs its own.",
                )
            if is_same_file(one.duckdb_path, other.duckdb_path):
                raise ConfigError(
                    "duckdb_path",
                    f"{one.duckdb_path} is the database of {accounts}. Each account needs its own.",
                )


def refuse_other_machines(one: Instance, launcher: str) -> None:
    """Raise if runs go to other machines, which would not share the database or the rate limit."""
    if launcher in ON_THIS_MACHINE:
        return
    where = f"runs go to other machines ({launcher})"
    if not one.is_lake:
        raise ConfigError(
            "duckdb_path",
            f"{where}, and each of them would fill a file of its own. Name a lake, "
            "ducklake:postgres:dbname=… host=….",
        )
    if not one.pace_url:
        raise ConfigError(
            "pace_url",
            f"{where}, and each of them would use the whole rate limit of the token. Name the "
            "Postgres in which they share it, postgresql://….",
        )
