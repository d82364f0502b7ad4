"""Where the data are, and how they are opened, locked and copied: here, a DuckDB file.

A lock file beside the database queues this project's own processes; whoever else has the file
open is waited for.
"""

import logging
import os
import random
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.warehouse.sql import FILE, literal, quote

logger = logging.getLogger(__name__)

SCHEMAS = frozenset({"dixa_metrics", "dixa_records", "dixa_filters", "dixa_catalogue"})
# Files in this format can be opened by every tool with DuckDB 1.5 or later.
STORAGE_VERSION = "v1.5.0"
# Seconds that a load waits, by default, for another process to let go of the file.
WAIT_SECONDS = 600.0
# The read copy's name while it is made.
COPY = "dixa read copy"


class Engine(ABC):
    """A database as the warehouse uses it.

    Attributes:
        name: Where it is, as people may read it.
        scratch: A folder for files that are about to be loaded.
        dialect: The SQL it takes.
        is_shared: Machines write in turn, and reading waits for nobody. Otherwise one process at a
            time has the database open, for whatever it does.
    """

    name: str
    scratch: Path
    dialect = FILE
    is_shared = False
    _config: Mapping[str, Any]

    @property
    @abstractmethod
    def identity(self) -> str:
        """Tells the database from others that have stood in its place."""

    @abstractmethod
    def changed_at(self) -> float | None:
        """When something was written last, in seconds since 1970; None while there is nothing."""

    @abstractmethod
    def connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that writes and sees all that was written; nobody else writes meanwhile."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that reads."""

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Tidy up, where a database does not by itself; what there was before, and is now."""
        return {}

    def is_lost(self, error: duckdb.Error) -> bool:
        """Whether an error says that the database went away, and nothing of what was asked."""
        return False

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for files to be loaded, gone afterwards.

        What a killed process left behind is removed by the next one: a folder whose lock is free
        has no owner.
        """
        make_folder(self.scratch, mode=0o700)
        for left in {path.with_suffix("") for path in self.scratch.iterdir()}:
            with suppress(Timeout), FileLock(f"{left}.lock", blocking=False) as lock:
                shutil.rmtree(left, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
        folder = self.scratch / uuid4().hex
        with FileLock(f"{folder}.lock") as lock:
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def copy_to(self, path: Path, *, finish: Callable[[duckdb.DuckDBPyConnection], None]) -> int:
        """Put a compact copy at `path`, in place of the one before; its bytes.

        Args:
            path: Where readers open it.
            finish: Called with a connection to the copy before it is put in place.
        """
        make_folder(path.parent)
        # The copy is made under its final file name, because DuckDB names a database after it.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            with self.reading() as connection:
                (own,) = connection.execute("SELECT current_database()").fetchone() or ("",)
                connection.execute(
                    f"ATTACH {literal(str(made))} AS {quote(COPY)} "
                    f"(STORAGE_VERSION {literal(STORAGE_VERSION)})"
                )
                try:
                    connection.execute(f"COPY FROM DATABASE {quote(own)} TO {quote(COPY)}")
                finally:
                    connection.execute(f"DETACH {quote(COPY)}")
            with duckdb.connect(str(made), config=dict(self._config)) as connection:
                finish(connection)
            size = made.stat().st_size
            os.replace(made, path)
        return size


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


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder that the database needs, or say why it cannot be."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "duckdb_path", f"its folder {folder} cannot be made ({error.strerror})."
        ) from None


def _holder(error: str) -> str:
    """Who holds the file, from DuckDB's own message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", error)
    return f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
