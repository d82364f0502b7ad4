"""Conflicts between settings that are valid alone, in one instance or in two."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Protocol

from dixa_assets.errors import ConfigError
from dixa_assets.model.options import HASH_KEY

# Run launchers whose runs have the files of the code location.
ON_THIS_MACHINE = ("", "DefaultRunLauncher", "SyncInMemoryRunLauncher")


class Instance(Protocol):
    """The attributes of `DixaAnalytics` that can conflict."""

    account: str
    duckdb_path: str
    lake_data: str
    pace_url: str
    read_copy_path: str
    report: bool
    hash_fields: Mapping[str, Sequence[str]]

    @property
    def report_file(self) -> Path | None:
        """The path of the report; None if there is none."""
        ...

    @property
    def is_lake(self) -> bool:
        """True if the database is a lake."""
        ...


def refuse_conflicts(instance: Instance) -> None:
    """Raise if attributes of one instance conflict."""
    refuse_shared_files([instance])
    if instance.hash_fields and not os.environ.get(HASH_KEY):
        raise ConfigError(
            HASH_KEY,
            "is not set, and hash_fields needs this key. Put a long random text into .env, such as "
            "the output of `openssl rand -hex 32`, and keep a copy of it.",
        )
    place = instance.lake_data
    if instance.is_lake and "://" not in place and not Path(place).is_absolute():
        raise ConfigError(
            "lake_data",
            f"is {'no absolute path' if place else 'empty'}, but a lake's rows need a place that "
            "every machine reaches: the absolute path of a folder, or s3://….",
        )


def refuse_duplicate_accounts(instances: Sequence[Instance]) -> None:
    """Raise if two instances have the same account, the same lake or a common file."""
    for first, second in combinations(instances, 2):
        if second.account == first.account:
            named = f"'{second.account}'" if second.account else "the empty name"
            raise ConfigError(
                "account",
                f"{named} occurs twice in this project. Give each DixaAnalytics an account of "
                "its own, which becomes the first part of its asset keys.",
            )
        accounts = f"the accounts '{first.account}' and '{second.account}'"
        if second.is_lake and second.lake_data == first.lake_data:
            raise ConfigError(
                "lake_data",
                f"{second.lake_data} holds the rows of {accounts}. Each lake needs its own.",
            )
        if second.duckdb_path.casefold() == first.duckdb_path.casefold():
            raise ConfigError(
                "duckdb_path",
                f"{second.duckdb_path} is the database of {accounts}. Each account needs its own.",
            )
    refuse_shared_files(instances)


def refuse_shared_files(instances: Sequence[Instance]) -> None:
    """Raise if two settings, of one instance or of two, name the same file."""
    taken: dict[object, tuple[str, str]] = {}
    for instance in instances:
        for setting, path in _files(instance):
            # Some file systems ignore case. One file may have two paths.
            names: list[object] = [path.casefold()]
            with suppress(OSError):
                status = os.stat(path)
                names.append((status.st_dev, status.st_ino))
            for other, account in (taken[name] for name in names if name in taken):
                whose = f" of the account '{account}'" * (account != instance.account)
                what = "the database itself" if other == "duckdb_path" else "in use"
                raise ConfigError(
                    setting, f"{path} is {what} ({other}{whose}). Choose another name."
                )
            taken |= dict.fromkeys(names, (setting, instance.account))


def _files(instance: Instance) -> Iterator[tuple[str, str]]:
    """The files of an instance, each with its setting."""
    if not instance.is_lake:
        # DuckDB's log, and the lock.
        yield from (
            ("duckdb_path", f"{instance.duckdb_path}{end}") for end in ("", ".wal", ".lock")
        )
    if instance.read_copy_path:
        yield "read_copy_path", instance.read_copy_path
    if instance.report and instance.report_file:
        yield "report_path", str(instance.report_file)


def refuse_remote_runs(instance: Instance, launcher: str) -> None:
    """Raise if runs go to other machines, which would not share the database or the rate limit."""
    if launcher in ON_THIS_MACHINE:
        return
    where = f"runs go to other machines ({launcher})"
    if not instance.is_lake:
        raise ConfigError(
            "duckdb_path",
            f"{where}, and each of them would fill a file of its own. Name a lake, "
            "ducklake:postgres:dbname=… host=….",
        )
    if not instance.pace_url:
        raise ConfigError(
            "pace_url",
            f"{where}, and each of them would use the whole rate limit of the token. Name the "
            "Postgres in which they share it, postgresql://….",
        )
