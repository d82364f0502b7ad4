"""The interface to a database: how it is opened and locked.

`file.py` implements it for a DuckDB file, `lake.py` for a DuckLake.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

from dixa_assets.files import make_folder, own_folder, process_folder
from dixa_assets.model.tables import MARTS
from dixa_assets.warehouse.sql import Connection

SCHEMAS = frozenset({"dixa_metrics", "dixa_records", "dixa_filters", "dixa_catalogue", MARTS})
# Files in this format can be opened by every tool with DuckDB 1.5 or later.
STORAGE_VERSION = "v1.5.0"


class Engine(ABC):
    """A database, as the warehouse uses it.

    Attributes:
        name: Its address, for messages.
        scratch: A folder for staged files.
        scratch_setting: The setting that places it.
        is_shared: True if readers never wait and machines write one after the other. False if only
            one process at a time can have the database open, to read or to write.
    """

    name: str
    scratch: Path
    scratch_setting = "duckdb_path"
    is_shared = False

    @abstractmethod
    def changed_at(self) -> float | None:
        """The time of the latest change, in seconds since 1970; None if there is no database yet.

        It also changes if another database replaces this one.
        """

    @abstractmethod
    def connect(self) -> AbstractContextManager[Connection]:
        """Open a connection for writing. It sees every committed write, and is the only writer."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Open a connection for reading."""

    @abstractmethod
    def verify_place(self) -> None:
        """Raise ConfigError if a database that is missing could not be created."""

    @abstractmethod
    def overwrite_removed(self, note: str) -> None:
        """Remove the last traces of removed values, then run the statement that notes it."""

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Compact the database if it needs that. Return its counts before and after."""
        return {}

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Make a folder for staged files, and remove it afterwards."""
        make_folder(self.scratch.parent, self.scratch_setting)
        own_folder(self.scratch, "Rows are staged there before they are written.")
        with process_folder(self.scratch, setting=self.scratch_setting) as folder:
            yield folder
