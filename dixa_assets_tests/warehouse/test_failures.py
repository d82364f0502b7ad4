"""DuckDB's errors become errors of this project, transient if waiting may help."""

import duckdb
import pytest

from dixa_assets.errors import (
    ConfigError,
    DixaAssetsError,
    WarehouseBusy,
    WarehouseError,
    WarehouseLost,
)
from dixa_assets.warehouse.failures import to_own_error

LOCKED = duckdb.IOException(
    'IO Error: Could not set lock on file "x": Conflicting lock is held in /usr/bin/python3.11 '
    "(PID 4711). See also https://duckdb.org/docs/stable/connect/concurrency"
)
GONE = duckdb.Error("server closed the connection unexpectedly\n\tThis probably means")
# As seen when a link was cut during a commit.
CUT = duckdb.TransactionException('Failed to commit: Failed to execute query "ROLLBACK": ')
BROKEN = duckdb.ConversionException("Could not convert string 'x' to INT64")


@pytest.mark.parametrize(
    ("error", "setting", "is_shared", "kind", "message"),
    [
        (LOCKED, "duckdb_path", False, WarehouseBusy, r"it failed: python3.11 \(process 4711\)"),
        (GONE, "", True, WarehouseLost, "it failed: server closed the connection unexpectedly "),
        (GONE, "duckdb_path", True, WarehouseLost, "it failed: "),
        (GONE, "", False, WarehouseError, "it failed: server closed"),
        (CUT, "", True, WarehouseLost, "it failed: .*ROLLBACK"),
        (BROKEN, "", True, WarehouseError, "it failed: a value does not fit .*ConversionExc"),
        (BROKEN, "move", False, ConfigError, r"^move: it failed \(a value does not fit"),
    ],
)
def test_an_error_of_duckdb_is_transient_or_terminal(
    error: duckdb.Error, setting: str, is_shared: bool, kind: type[DixaAssetsError], message: str
) -> None:
    found = to_own_error(error, "it failed", setting=setting, is_shared=is_shared)
    assert type(found) is kind
    assert found.retryable == (kind in (WarehouseBusy, WarehouseLost))
    with pytest.raises(kind, match=message):
        raise found
