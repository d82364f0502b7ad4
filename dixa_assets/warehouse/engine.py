"""The interface to a database: how it is opened, locked and copied.

`file.py` implements it for a DuckDB file, `lake.py` for a DuckLake.
"""

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import MARTS
from dixa_assets.warehouse.schema import ensure_daily_view
from dixa_assets.warehouse.sql import literal, quote

SCHEMAS = frozenset({"dixa_metrics", "dixa_records", "dixa_filters", "dixa_catalogue", MARTS})
# Files in this format can be opened by every tool with DuckDB 1.5 or later.
STORAGE_VERSION = "v1.5.0"
# The read copy's name while it is written.
COPY = "dixa read copy"


class Engine(ABC):
    """A database, as the warehouse uses it.

    Attributes:
        name: Its address, for messages.
        scratch: A folder for staged files.
        is_shared: True if readers never wait and machines write one after the other. False if only
            one process at a time can have the database open, to read or to write.
    """

    name: str
    scratch: Path
    is_shared = False
    _config: Mapping[str, Any]

    @property
    @abstractmethod
    def identity(self) -> str:
        """A string that changes if another database replaces this one."""

    @abstractmethod
    def changed_at(self) -> float | None:
        """The time of the latest write, in seconds since 1970; None if there is no database yet."""

    @abstractmethod
    def connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a connection for writing. It sees every committed write, and is the only writer."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a connection for reading."""

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Compact the database if it needs that. Return its counts before and after."""
        return {}

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Make a folder for staged files, and remove it afterwards.

        It also removes the folders of killed processes: a folder whose lock is free has no owner.
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

    def copy_to(self, path: Path) -> int:
        """Replace the file at `path` with a compact copy. Return the size of the copy in bytes."""
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
                ensure_daily_view(connection)
            size = made.stat().st_size
            os.replace(made, path)
        return size


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder that the database needs.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "duckdb_path", f"its folder {folder} cannot be made ({error.strerror})."
        ) from None
