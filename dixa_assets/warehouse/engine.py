"""Where the data are, and how they are opened, locked and copied: here, a DuckDB file.

A lock file beside the database queues this project's own processes; whoever else has the file
open is waited for.
"""

import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError
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


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder that the database needs, or say why it cannot be."""
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "duckdb_path", f"its folder {folder} cannot be made ({error.strerror})."
        ) from None
