"""A DuckDB file: how it is opened and locked."""

import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseLost
from dixa_assets.files import make_folder, unwritable
from dixa_assets.warehouse.engine import SCHEMAS, STORAGE_VERSION, Engine
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.settings import WarehouseSettings

logger = logging.getLogger(__name__)


class DuckDBFile(Engine):
    """A database file.

    A lock file next to the database queues the processes of this project. If another program has
    the database open, DuckDB cannot lock it, and the connection is retried.

    Args:
        path: The file; its folder is made if it is missing.
        settings: How long to wait for another process.
        connection_config: DuckDB settings, as DuckDBResource takes them.
    """

    def __init__(
        self, path: Path, settings: WarehouseSettings, connection_config: Mapping[str, Any]
    ) -> None:
        self.path, self.name = path, str(path)
        self.scratch = Path(f"{path}.staging")
        if path.stem.lower() in SCHEMAS:
            raise ConfigError(
                "duckdb_path",
                f"'{path.name}' has the name of a schema in it, and DuckDB could not tell "
                f"'{path.stem}.table' from a table of the whole file. Choose another name.",
            )
        # DuckDBResource sets this agent string. A process cannot open one file with two
        # configurations.
        self._config = {
            "custom_user_agent": "dagster",
            "storage_compatibility_version": STORAGE_VERSION,
            **connection_config,
        }
        self._wait_seconds = settings.database_wait_seconds

    def changed_at(self) -> float | None:
        """The time of the latest change of the file; None if there is no file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        # A file that is moved here keeps the time of its contents.
        return max(status.st_mtime, status.st_ctime)

    def verify_place(self) -> None:
        """Raise ConfigError if the file is missing and cannot be created."""
        if self.changed_at() is not None:
            return
        try:
            folder = next(each for each in self.path.parents if each.exists())
            TemporaryDirectory(dir=folder).cleanup()
        except OSError as error:
            reason = f"{self.path} cannot be created ({error.strerror})."
            raise ConfigError("duckdb_path", reason) from None

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the only connection to the file."""
        make_folder(self.path.parent, "duckdb_path")
        deadline = time.monotonic() + self._wait_seconds
        lock = FileLock(f"{self.path}.lock", poll_interval=0.02)
        try:
            held = lock.acquire(timeout=self._wait_seconds)
        except Timeout:
            raise WarehouseBusy(
                f"{self.path}: other loads of this project held the database for "
                f"{self._wait_seconds:.0f} s. Run fewer at a time, or look for a load that hangs."
            ) from None
        except OSError as error:
            raise unwritable("duckdb_path", self.path, error) from None
        with held:
            connection = self._open(deadline)
            try:
                opened = self._number()
                connection.execute("SET TimeZone = 'UTC'")
                yield connection
                is_replaced = self._number() != opened
            finally:
                connection.close()
            if is_replaced:
                raise WarehouseLost(f"{self.path} was replaced or removed while it was open.")

    reading = connect

    def _number(self) -> int:
        """The number of the file at the path; 0 if there is none."""
        return self.path.stat().st_ino if self.path.exists() else 0

    def _open(self, deadline: float) -> duckdb.DuckDBPyConnection:
        reported = ""
        while True:
            try:
                return duckdb.connect(str(self.path), config=dict(self._config))
            except duckdb.Error as error:
                # DuckDB does not apply the log of another database.
                advice = f"; remove {self.path}.wal if it is from a former file"
                failure = to_own_error(
                    error,
                    f"'{self.path}' cannot be opened as a database for writing"
                    + advice * ("WAL" in str(error)),
                    setting="duckdb_path" if isinstance(error, duckdb.IOException) else "",
                )
                if not isinstance(failure, WarehouseBusy) or time.monotonic() > deadline:
                    raise failure from None
                if str(failure) != reported:
                    reported = str(failure)
                    logger.warning("waiting up to %.0f s; %s", self._wait_seconds, failure)
                # A random pause keeps waiting processes from trying at the same moments.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
