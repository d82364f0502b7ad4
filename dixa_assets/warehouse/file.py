"""A DuckDB file: how it is opened and locked."""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from dixa_assets import private
from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.warehouse.engine import SCHEMAS, STORAGE_VERSION, Engine, make_folder
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import literal, quote

logger = logging.getLogger(__name__)

# The name of the compact copy while it is made.
COPY = "dixa_compact_copy"


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

    @property
    def identity(self) -> str:
        """The path, with the number of the file."""
        return f"{self.path.absolute()} {self.path.stat().st_ino if self.path.exists() else 0}"

    def changed_at(self) -> float | None:
        """The time of the latest change of the file; None if there is no file."""
        return self.path.stat().st_mtime if self.path.exists() else None

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the only connection to the file."""
        make_folder(self.path.parent)
        deadline = time.monotonic() + self._wait_seconds
        lock = FileLock(f"{self.path}.lock", poll_interval=0.02, mode=0o600)
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
                f"{self.path}: other loads of this project held the database for "
                f"{self._wait_seconds:.0f} s. Run fewer at a time, or look for a load that hangs."
            ) from None
        except PermissionError as error:
            raise ConfigError("duckdb_path", f"cannot be written ({error}).") from None

    reading = connect

    def overwrite_removed(self, note: str) -> None:
        """Replace the file with a compact copy, because free blocks keep what was removed."""
        problem = f"{self.path}: removed values may still be in its free blocks"
        with self.staging() as folder, self.connect() as connection:
            made = folder / self.path.name
            try:
                connection.execute(
                    f"CHECKPOINT; ATTACH {literal(str(made))} AS {COPY} "
                    f"(STORAGE_VERSION {literal(STORAGE_VERSION)})"
                )
                (own,) = connection.execute("SELECT current_database()").fetchone() or ("",)
                connection.execute(f"COPY FROM DATABASE {quote(own)} TO {COPY}")
                is_whole = _objects(connection, own) == _objects(connection, COPY)
                connection.execute(f"DETACH {COPY}")
                connection.close()
                with duckdb.connect(str(made), config=dict(self._config)) as copy:
                    copy.execute(note)
            except duckdb.Error as error:
                raise to_own_error(error, problem) from None
            if not is_whole or Path(f"{self.path}.wal").exists():
                raise WarehouseError(f"{problem}. DuckDB cannot copy every object in the file.")
            private.replace(made, self.path)

    def _open(self, deadline: float) -> duckdb.DuckDBPyConnection:
        reported, is_new = "", not self.path.exists()
        while True:
            try:
                connection = duckdb.connect(str(self.path), config=dict(self._config))
                if is_new:
                    self.path.chmod(0o600)
                return connection
            except duckdb.Error as error:
                failure = to_own_error(
                    error,
                    f"'{self.path}' cannot be opened as a database for writing",
                    setting="duckdb_path" if isinstance(error, duckdb.IOException) else "",
                )
                if not isinstance(failure, WarehouseBusy) or time.monotonic() > deadline:
                    raise failure from None
                if str(failure) != reported:
                    reported = str(failure)
                    logger.warning("waiting up to %.0f s; %s", self._wait_seconds, failure)
                # A random pause keeps waiting processes from trying at the same moments.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311


def _objects(connection: duckdb.DuckDBPyConnection, database: str) -> Sequence[object]:
    """The numbers of tables, views, indexes and so on in a database."""
    kinds = ("tables", "views", "indexes", "constraints", "sequences", "functions", "types")
    counts = (
        f"(SELECT count(*) FROM duckdb_{kind}() WHERE database_name = {literal(database)})"
        for kind in kinds
    )
    return connection.execute(f"SELECT {', '.join(counts)}").fetchone() or ()
