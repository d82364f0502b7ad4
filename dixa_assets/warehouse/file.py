"""A DuckDB file: how it is opened and locked."""

import logging
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.warehouse.engine import SCHEMAS, STORAGE_VERSION, Engine, make_folder

logger = logging.getLogger(__name__)


class DuckDBFile(Engine):
    """A database file.

    Args:
        path: The file; its folder is made when missing.
        connection_config: DuckDB settings, as DuckDBResource takes them.
        wait_seconds: How long another holder of the file is waited for.
    """

    def __init__(
        self, path: Path, *, connection_config: Mapping[str, Any], wait_seconds: float
    ) -> None:
        self.path, self.name = path, str(path)
        self.scratch = Path(f"{path}.staging")
        if path.stem.lower() in SCHEMAS:
            raise ConfigError(
                "duckdb_path",
                f"'{path.name}' is named like a schema in it, and DuckDB could not tell "
                f"'{path.stem}.table' from a table of the whole file. Take another name.",
            )
        # DuckDBResource sets this agent string. A process cannot open one file with two
        # configurations.
        self._config = {
            "custom_user_agent": "dagster",
            "storage_compatibility_version": STORAGE_VERSION,
            **connection_config,
        }
        self._wait_seconds = wait_seconds

    @property
    def identity(self) -> str:
        """The path, and which of the files that have stood there."""
        return f"{self.path.absolute()} {self.path.stat().st_ino if self.path.exists() else 0}"

    def changed_at(self) -> float | None:
        """The file's time of change; None while there is none."""
        return self.path.stat().st_mtime if self.path.exists() else None

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection; nobody else has one meanwhile."""
        make_folder(self.path.parent)
        deadline = time.monotonic() + self._wait_seconds
        lock = FileLock(f"{self.path}.lock", poll_interval=0.02)
        try:
            with lock.acquire(timeout=self._wait_seconds):
                connection = self._open(deadline)
                try:
                    connection.execute("SET TimeZone = 'UTC'")
                    yield connection
                finally:
                    connection.close()
        except Timeout:
            raise WarehouseBusy(
                f"{self.path}: other loads of this project kept the database for "
                f"{self._wait_seconds:.0f} s. Run fewer at a time, or look for one that hangs."
            ) from None
        except PermissionError as error:
            raise ConfigError("duckdb_path", f"cannot be written ({error}).") from None

    reading = connect

    def _open(self, deadline: float) -> duckdb.DuckDBPyConnection:
        waits_for = ""
        while True:
            try:
                return duckdb.connect(str(self.path), config=dict(self._config))
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise ConfigError(
                        "duckdb_path",
                        f"'{self.path}' cannot be opened as a database for writing ({error}).",
                    ) from None
                holder = _holder(str(error))
                if time.monotonic() > deadline:
                    raise WarehouseBusy(
                        f"{self.path}: {holder} has had the database open for "
                        f"{self._wait_seconds:.0f} s and keeps every load out. Close it there, "
                        "then load again; nothing was written."
                    ) from None
                if waits_for != holder:
                    waits_for = holder
                    logger.warning(
                        "waiting for %s, which has %s open; close it there, or open the read copy "
                        "instead",
                        holder,
                        self.path,
                    )
                # A random pause, so that several waiting processes do not try in step.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
            except duckdb.Error as error:
                raise WarehouseError(f"{self.path} cannot be opened: {error}") from None


def _holder(error: str) -> str:
    """Who holds the file, from DuckDB's own message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", error)
    return f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
