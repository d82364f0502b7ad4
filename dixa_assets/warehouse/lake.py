"""A DuckLake: a database that several machines write.

Its catalogue is in a Postgres, its rows are in files that every machine can reach. A lock in the
Postgres admits one writer at a time, because every write changes the load log and two writes that
begin at the same moment would both find the same day missing. Postgres releases the lock when the
session ends, whatever the reason. See https://ducklake.select/docs/stable/
"""

import atexit
import functools
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import psycopg
from psycopg.conninfo import make_conninfo

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseLost
from dixa_assets.files import make_folder, process_folder
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.warehouse.engine import Engine
from dixa_assets.warehouse.extensions import load_extension
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.signals import delayed_signals
from dixa_assets.warehouse.sql import Connection, literal

# The lake's name in DuckDB.
CATALOG = "dixa_lake"
# The numbers of two locks in Postgres: for writing, and for attaching, because two processes that
# attach a new lake at the same moment both fail.
WRITING, ATTACHING = 0x64697861, 0x64697862
# A lost connection is noticed after half a minute, not after hours.
SESSION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # Keepalive also lets the server release the lock of a dead client.
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=30000",
}
# Seconds to wait for a server that restarts.
PATIENCE = 30.0
# A file that no snapshot needs is kept for this long, because a query may still read it.
LONGEST_READ = timedelta(days=1)
T = TypeVar("T")


class DuckLake(Engine):
    """A lake.

    Args:
        dsn: Its Postgres, as libpq takes it: `dbname=… host=…`.
        settings: The folder of a new lake's rows, and how long to wait for another writer.
        connection_config: DuckDB settings, as DuckDBResource takes them.
    """

    is_shared = True
    scratch_setting = "TMPDIR"

    def __init__(
        self, dsn: str, settings: WarehouseSettings, connection_config: Mapping[str, Any]
    ) -> None:
        self.name = f"{LAKE_SCHEME}{dsn}"
        owner = getattr(os, "getuid", int)()
        self.scratch = Path(tempfile.gettempdir()) / f"dixa_assets-{owner}.staging"
        self._config = connection_config
        self._wait_seconds = settings.database_wait_seconds
        self._lake = _attached(dsn, settings.lake_data)

    def changed_at(self) -> float | None:
        """The time of the latest snapshot; None if there is no lake."""
        if self._lake.questions.fetch("SELECT to_regclass('ducklake_metadata')") == (None,):
            return None
        found = self._lake.questions.fetch(
            "SELECT extract(epoch FROM max(snapshot_time))::float8 FROM ducklake_snapshot"
        )
        return None if found[0] is None else float(found[0])

    def verify_place(self) -> None:
        """Raise ConfigError if an extension is missing."""
        with duckdb.connect() as connection:
            self._lake.load_extensions(connection)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection for writing. No other machine, process or thread writes meanwhile."""
        with self._lake.turn, self._writing(), self.reading() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for reading. It does not wait for writers."""
        connection = self._lake.cursor()
        try:
            with delayed_signals(connection):
                yield connection
        finally:
            with suppress(duckdb.Error):
                connection.close()

    def overwrite_removed(self, note: str) -> None:
        """Write the rows again without what was removed, and remove every earlier state."""
        lake = literal(CATALOG)
        for statement in (
            f"CALL ducklake_rewrite_data_files({lake}, delete_threshold => 0)",
            f"CALL ducklake_expire_snapshots({lake}, older_than => now())",
            f"CALL ducklake_cleanup_old_files({lake}, cleanup_all => true)",
            note,
        ):
            with self.connect() as connection:
                connection.execute(statement).fetchall()

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Merge small files, and remove files that no snapshot needs."""
        lake, unread = literal(CATALOG), min(keep, LONGEST_READ)
        expired, unused = (
            f"older_than => now() - INTERVAL {each.total_seconds():.0f} SECOND"
            for each in (keep, unread)
        )
        with self.reading() as connection:
            files_before, snapshots_before = _size(connection)
        for task in (
            f"ducklake_rewrite_data_files({lake})",
            f"ducklake_merge_adjacent_files({lake})",
            f"ducklake_expire_snapshots({lake}, {expired})",
            f"ducklake_cleanup_old_files({lake}, {unused})",
        ):
            # Loads may write between two tasks.
            with self.connect() as connection:
                connection.execute(f"CALL {task}").fetchall()
        with self.reading() as connection:
            files_after, snapshots_after = _size(connection)
        return {
            "files_before": files_before,
            "snapshots_before": snapshots_before,
            "files": files_after,
            "snapshots": snapshots_after,
        }

    @contextmanager
    def _writing(self) -> Iterator[None]:
        session = self._lake.writer
        timeout = max(int(1000 * self._wait_seconds), 1)
        try:
            session.fetch(f"SET lock_timeout = {timeout}", f"SELECT pg_advisory_lock({WRITING})")
        except psycopg.errors.LockNotAvailable:
            raise WarehouseBusy(
                f"{self.name}: {self._writer()} held the lake for {self._wait_seconds:.0f} s. "
                "Run fewer loads at a time, or look for one that hangs. Nothing was written."
            ) from None
        try:
            yield
        finally:
            session.execute_once(f"SELECT pg_advisory_unlock({WRITING})")

    def _writer(self) -> str:
        found = self._lake.questions.fetch(
            "SELECT min(application_name) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            f"WHERE locktype = 'advisory' AND objid = {WRITING} AND granted "
            # Other lakes on the server have writers too.
            "AND datname = current_database()"
        )
        return found[0] or "another writer"


class _Session:
    """A connection to the lake's Postgres. It is opened when needed, and again if it is lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def fetch(self, *statements: str) -> tuple[Any, ...]:
        """Return the first row of the last statement. If the connection is lost, repeat all.

        Raises:
            WarehouseLost: The server does not answer.
        """
        return _retry_while_lost(lambda: self._fetch(*statements), self._connection is not None)

    def execute_once(self, statement: str) -> None:
        """Execute on the open connection. A lost connection has released its locks already."""
        with self._lock, suppress(psycopg.OperationalError):
            if self._connection:
                self._connection.execute(statement.encode())

    def _fetch(self, *statements: str) -> tuple[Any, ...]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(self._dsn, autocommit=True)
                for statement in statements:
                    cursor = self._connection.execute(statement.encode())
                return cursor.fetchone() or ()
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.OperationalError as error:
                if self._connection:
                    self._connection.close()
                self._connection = None
                raise _lost(error) from None


class _Attached:
    """The DuckDB instance of a process that has the lake attached, which takes half a second."""

    def __init__(self, dsn: str, data: str) -> None:
        self._name, self._data = f"{LAKE_SCHEME}{dsn}", data
        try:
            who = f"dixa_assets {socket.gethostname()} {os.getpid()}"
            self._dsn = make_conninfo(dsn, application_name=who, **SESSION)
        except psycopg.ProgrammingError:
            # The reason quotes the address, which may have a password in the wrong place.
            problem = f"must be like {LAKE_SCHEME}dbname=… host=… user=…."
            raise ConfigError("duckdb_path", problem) from None
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._spill = ExitStack()
        atexit.register(self._spill.close)
        # One thread writes at a time; the lock in Postgres excludes other processes.
        self.turn = threading.RLock()
        # A writer may wait in its session, so other queries have a session of their own.
        self.writer, self.questions = _Session(self._dsn), _Session(self._dsn)

    def cursor(self) -> Connection:
        """Open a connection for one thread, and test it with a query.

        Raises:
            WarehouseLost: The server does not answer.
        """
        return _retry_while_lost(self._cursor, self._connection is not None)

    def _cursor(self) -> Connection:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._attach()
                cursor = self._connection.cursor()
                with delayed_signals():
                    cursor.execute(f"USE {CATALOG}; SET TimeZone = 'UTC'")
                    cursor.execute(
                        "SELECT count(*) FROM duckdb_schemas() "
                        f"WHERE database_name = {literal(CATALOG)}"
                    ).fetchone()
            except (duckdb.Error, psycopg.OperationalError, OSError) as error:
                was_connected, self._connection = self._connection is not None, None
                # A server that has answered before is lost, whatever the error says.
                if was_connected or isinstance(error, psycopg.Error):
                    raise _lost(error) from None
                raise to_own_error(
                    error,
                    f"{self._name} cannot be opened as a lake",
                    setting="duckdb_path",
                    is_shared=True,
                ) from None
            return cursor

    def load_extensions(self, connection: Connection) -> None:
        """Load the extensions that the lake needs."""
        for extension in ("postgres_scanner", "ducklake", *["httpfs"] * ("://" in self._data)):
            load_extension(connection, extension, "a lake")

    def _attach(self) -> Connection:
        # Each process has a folder that only its user can read: DuckDB may write rows into it.
        self._spill.close()
        temporary = Path(tempfile.gettempdir())
        spill = self._spill.enter_context(
            process_folder(temporary, "dixa_assets-spill-", setting="TMPDIR")
        )
        connection = duckdb.connect(
            config={"custom_user_agent": "dagster", "temp_directory": str(spill)}
        )
        self.load_extensions(connection)
        if self._data and "://" not in self._data:
            make_folder(Path(self._data), "lake_data")
        options = f", DATA_PATH {literal(self._data)}" if self._data else ""
        with psycopg.connect(self._dsn) as session:
            session.execute(b"SET lock_timeout = '60s'")
            session.execute(b"SELECT pg_advisory_xact_lock(%s)", [ATTACHING])
            connection.execute(
                f"ATTACH {literal(LAKE_SCHEME + self._dsn)} AS {CATALOG} "
                f"(DATA_INLINING_ROW_LIMIT 0{options})"
            )
        return connection


# Warehouses with the same lake share its connection.
_attached = functools.cache(_Attached)


def _retry_while_lost(attempt: Callable[[], T], was_connected: bool) -> T:
    """Return the result of an attempt. A server that has answered before may restart: retry."""
    deadline = time.monotonic() + (PATIENCE if was_connected else 0)
    while True:
        try:
            return attempt()
        except WarehouseLost:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _lost(error: Exception) -> WarehouseLost:
    return WarehouseLost(f"the lake's Postgres does not answer: {' '.join(str(error).split())}")


def _size(connection: Connection) -> tuple[int, int]:
    """The numbers of files and snapshots of the lake."""
    found = connection.execute(
        f"SELECT (SELECT sum(file_count) FROM ducklake_table_info({literal(CATALOG)})), "
        f"(SELECT count(*) FROM ducklake_snapshots({literal(CATALOG)}))"
    ).fetchone()
    data_files, snapshots = found or (0, 0)
    return int(data_files or 0), int(snapshots)
