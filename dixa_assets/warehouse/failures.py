"""DuckDB's errors as errors of this project, terminal or transient."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dixa_assets.errors import (
    ConfigError,
    DixaAssetsError,
    WarehouseBusy,
    WarehouseError,
    WarehouseLost,
)
from dixa_assets.model.tables import Table
from dixa_assets.warehouse.objects import indexes_on
from dixa_assets.warehouse.sql import Connection

# The errors that indexes and constraints of other programs on a table can cause.
OBSTACLES = (duckdb.CatalogException, duckdb.ConstraintException, duckdb.DependencyException)
# DuckDB's errors about values quote them, and a value may be personal.
_QUOTING = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)
# Messages about a lake's Postgres that does not answer, or about another writer who was first. A
# rollback fails only without a connection, sometimes without a reason.
_LOST = re.compile(
    "connection to server|server closed the connection|terminating connection|no connection to"
    "|could not receive data|could not send data|starting up|shutting down|connection is lost"
    "|SSL SYSCALL|SSL error|SSL connection|could not translate host name"
    '|execute query "ROLLBACK"'
    "|transaction conflict|write-write conflict|could not serialize|maximum retry count",
    re.IGNORECASE,
)


def is_lost(error: Exception) -> bool:
    """True if the server of a lake does not answer, or another writer was first."""
    return bool(_LOST.search(str(error)))


def to_own_error(
    error: Exception,
    problem: str,
    *,
    setting: str = "",
    is_shared: bool = False,
    obstacles: str = "",
) -> DixaAssetsError:
    """Translate an error of DuckDB into an error of this project.

    Args:
        error: The error of DuckDB.
        problem: The first part of the message: the operation that failed.
        setting: The setting that is wrong if the error is terminal; empty if none is.
        is_shared: True for a lake, whose server may not answer.
        obstacles: The indexes of other programs on the table, if the error is one of `OBSTACLES`.

    Returns:
        Transient: WarehouseBusy if another process has the file open, WarehouseLost if the server
        does not answer or another writer was first. Terminal: ConfigError with a setting,
        WarehouseError without.
    """
    reason = " ".join(str(error).split())
    if isinstance(error, duckdb.IOException) and "Could not set lock" in reason:
        found = re.search(r"held in (.+?) \(PID (\d+)\)", reason)
        holder = f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
        return WarehouseBusy(
            f"{problem}: {holder} has the database open. Close it there, or open the read copy "
            "instead. Nothing was written."
        )
    if is_shared and is_lost(error):
        others = " Other loads wrote at the same moment. Run fewer." * ("conflict" in reason)
        return WarehouseLost(f"{problem}: {reason}{others}")
    if obstacles or isinstance(error, duckdb.ConstraintException):
        # DuckDB's message may quote a value.
        return WarehouseError(
            f"{problem}: {obstacles or 'a constraint'} on the table prevents it. This project "
            "creates no index and no constraint. Drop it, and load again."
        )
    if isinstance(error, _QUOTING):
        reason = (
            f"a value does not fit its column ({type(error).__name__}). Did another program change "
            "the type of a column?"
        )
    if setting:
        return ConfigError(setting, f"{problem} ({reason}).")
    return WarehouseError(f"{problem}: {reason}")


@contextmanager
def explain_failure(
    connection: Connection, table: Table, problem: str, *, is_shared: bool
) -> Iterator[None]:
    """Raise DuckDB's error about a write into a table as an error of this project."""
    try:
        yield
    except duckdb.Error as error:
        is_unclear = is_shared and is_lost(error)
        state = "they are all old or all new" if is_unclear else "they did not change"
        raise to_own_error(
            error,
            f"{problem}; {state}",
            is_shared=is_shared,
            obstacles=indexes_on(connection, table) if isinstance(error, OBSTACLES) else "",
        ) from None
