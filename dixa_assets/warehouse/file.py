"""A DuckDB file: how it is opened and locked."""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError, WarehouseLost
from dixa_assets.files import make_folder, replace_file, unwritable
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.warehouse.engine import SCHEMAS, STORAGE_VERSION, Engine
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.read_copy import copy_into
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.signals import delayed_signals
from dixa_assets.warehouse.sql import Connection, ambiguity

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
                f"'{path.name}' has the name of a schema in it, and {ambiguity(path.stem)}. "
                "Choose another name.",
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
    def connect(self) -> Iterator[Connection]:
        """Open the only connection to the file."""
        with self._locked() as deadline:
            connection = self._open(deadline)
            try:
                with delayed_signals(connection):
                    opened = self._inode()
                    connection.execute("SET TimeZone = 'UTC'")
                    yield connection
                    is_replaced = self._inode() != opened
            finally:
                connection.close()
            if is_replaced:
                raise WarehouseLost(f"{self.path} was replaced or removed while it was open.")

    reading = connect

    @contextmanager
    def _locked(self) -> Iterator[float]:
        """Hold the lock file. Return the time until which to wait for other programs."""
        make_folder(self.path.parent, "duckdb_path")
        deadline = time.monotonic() + self._wait_seconds
        lock = FileLock(f"{self.path}.lock", poll_interval=0.02, mode=0o600)
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
            yield deadline

    def _inode(self) -> int:
        """The inode of the file at the path; 0 if there is none."""
        return self.path.stat().st_ino if self.path.exists() else 0

    def overwrite_removed(self, note: str) -> None:
        """Replace the file with a compact copy, because free blocks keep what was removed."""
        problem = f"{self.path}: removed values may still be in its free blocks"
        with self.staging() as folder, self._locked() as deadline:
            made = folder / self.path.name
            try:
                with self._open(deadline) as connection:
                    connection.execute("CHECKPOINT")
                    left_out, objects = copy_into(connection, made), _objects(connection)
                with duckdb.connect(str(made), config=dict(self._config)) as copy:
                    copy.execute(note)
                    is_whole = not left_out and _objects(copy) == objects
            except duckdb.Error as error:
                raise to_own_error(error, problem) from None
            if not is_whole or Path(f"{self.path}.wal").exists():
                raise WarehouseError(f"{problem}. DuckDB cannot copy every object in the file.")
            replace_file(made, self.path)

    def _open(self, deadline: float) -> Connection:
        reported, is_new = "", not self.path.exists()
        while True:
            try:
                with delayed_signals():
                    connection = duckdb.connect(str(self.path), config=dict(self._config))
                    if is_new:
                        self.path.chmod(0o600)
                return connection
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


def _objects(connection: Connection) -> Sequence[object]:
    """How many tables, views, indexes and so on the database has."""
    kinds = ("tables", "views", "indexes", "constraints", "sequences", "functions", "types")
    counts = (
        f"(SELECT count(*) FROM duckdb_{kind}() WHERE database_name = current_database())"
        for kind in kinds
    )
    return connection.execute(f"SELECT {', '.join(counts)}").fetchone() or ()


def open_engine(address: str, settings: WarehouseSettings, config: Mapping[str, Any]) -> Engine:
    """Choose the engine of a file's path or of a lake's address."""
    if not address.startswith(LAKE_SCHEME):
        return DuckDBFile(Path(address), settings, config)
    # Its driver is an extra.
    from dixa_assets.warehouse.lake import DuckLake

    return DuckLake(address.removeprefix(LAKE_SCHEME), settings, config)
