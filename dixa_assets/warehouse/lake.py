"""Where the data are when many machines write them: a DuckLake.

Its catalogue is in a Postgres, its rows are in files that every machine reaches. One lock in that
Postgres lets one write at a time into the whole lake: each also changes the load log, and two that
begin at the same moment would both see that a day is not there yet. It ends with the session that
holds it, whatever ended that. See https://ducklake.select/docs/stable/
"""

import functools
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import psycopg
from psycopg.conninfo import make_conninfo

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseLost
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.warehouse.engine import Engine
from dixa_assets.warehouse.sql import LAKE, literal

# The lake's name in DuckDB.
CATALOG = "dixa_lake"
# Postgres' numbers of the two locks: for writing, and for attaching, because two processes that
# attach a new lake at once fail each other.
WRITING, ATTACHING = 0x64697861, 0x64697862
# A connection that went away is missed after half a minute, not after hours.
SESSION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # So does the server miss a machine that holds a lock and is gone.
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=30000",
}
# Seconds in which a server that is being started again is waited for.
PATIENCE = 30.0
# A file that no snapshot needs is kept for so long, for whoever still reads it.
LONGEST_READ = timedelta(days=1)
# How errors begin, or what is in them, when the server is gone.
LOST = re.compile(
    "connection to server|server closed the connection|terminating connection|no connection to"
    "|could not receive data|could not send data|starting up|shutting down|connection is lost"
    "|SSL SYSCALL|SSL error|SSL connection|could not translate host name",
    re.IGNORECASE,
)
T = TypeVar("T")


class DuckLake(Engine):
    """A lake.

    Args:
        dsn: Its Postgres, as libpq takes it: `dbname=… host=…`.
        data: Where a new lake keeps its rows; a lake that is there knows.
        connection_config: DuckDB settings, as DuckDBResource takes them.
        wait_seconds: How long another writer is waited for.
    """

    dialect = LAKE
    is_shared = True

    def __init__(
        self, dsn: str, *, data: str, connection_config: Mapping[str, Any], wait_seconds: float
    ) -> None:
        self.name = f"{LAKE_SCHEME}{dsn}"
        owner = getattr(os, "getuid", int)()
        self.scratch = Path(tempfile.gettempdir()) / f"dixa_assets-{owner}.staging"
        self._config = connection_config
        self._wait_seconds = wait_seconds
        self._lake = _attached_once(dsn, data)

    @property
    def identity(self) -> str:
        """Where it is, and which of the lakes that have been there; 0 while there is none."""
        found = self._lake.questions.ask("SELECT to_regclass('ducklake_metadata')::oid::bigint")
        return f"{self.name} {found[0] or 0}"

    def changed_at(self) -> float | None:
        """When the latest snapshot was taken; None while there is no lake."""
        if self.identity.endswith(" 0"):
            return None
        found = self._lake.questions.ask(
            "SELECT extract(epoch FROM max(snapshot_time))::float8 FROM ducklake_snapshot"
        )
        return None if found[0] is None else float(found[0])

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection; no other machine, process or thread has one meanwhile."""
        with self._lake.turn, self._writing(), self.reading() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that waits for nobody."""
        connection = self._lake.cursor()
        try:
            yield connection
        finally:
            with suppress(duckdb.Error):
                connection.close()

    def is_lost(self, error: duckdb.Error) -> bool:
        """Whether an error says that Postgres does not answer."""
        return bool(LOST.search(str(error)))

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Write small files together and remove those that no snapshot needs."""
        lake, unread = literal(CATALOG), min(keep, LONGEST_READ)
        expired, unused = (
            f"older_than => now() - INTERVAL {each.total_seconds():.0f} SECOND"
            for each in (keep, unread)
        )
        with self.reading() as connection:
            found = {"files_before": _files(connection), "snapshots_before": _snapshots(connection)}
        for task in (
            f"ducklake_rewrite_data_files({lake})",
            f"ducklake_merge_adjacent_files({lake})",
            f"ducklake_expire_snapshots({lake}, {expired})",
            f"ducklake_cleanup_old_files({lake}, {unused})",
        ):
            # Loads may write in between.
            with self.connect() as connection:
                connection.execute(f"CALL {task}").fetchall()
        with self.reading() as connection:
            return found | {"files": _files(connection), "snapshots": _snapshots(connection)}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        session = self._lake.writer
        timeout = max(int(1000 * self._wait_seconds), 1)
        try:
            session.ask(f"SET lock_timeout = {timeout}", f"SELECT pg_advisory_lock({WRITING})")
        except psycopg.errors.LockNotAvailable:
            raise WarehouseBusy(
                f"{self.name}: {self._writer()} kept the lake for {self._wait_seconds:.0f} s. "
                "Run fewer loads at a time, or look for one that hangs; nothing was written."
            ) from None
        try:
            yield
        finally:
            session.ask_once(f"SELECT pg_advisory_unlock({WRITING})")

    def _writer(self) -> str:
        found = self._lake.questions.ask(
            "SELECT min(application_name) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            f"WHERE locktype = 'advisory' AND objid = {WRITING} AND granted "
            # Other lakes on the server have writers too.
            "AND datname = current_database()"
        )
        return found[0] or "another writer"


class _Session:
    """A connection to the lake's Postgres: made when it is needed, and anew when it is lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def ask(self, *statements: str) -> tuple[Any, ...]:
        """The last one's first row; all of them again on a new connection where the old was lost.

        Raises:
            WarehouseLost: The server does not answer.
        """
        return _patiently(lambda: self._ask(*statements), self._connection is not None)

    def ask_once(self, statement: str) -> None:
        """Ask on the connection that there is. Where it is gone, so is what it held."""
        with self._lock, suppress(psycopg.OperationalError):
            if self._connection:
                self._connection.execute(statement.encode())

    def _ask(self, *statements: str) -> tuple[Any, ...]:
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
    """A process' one DuckDB with a lake in it: to attach it takes half a second."""

    def __init__(self, dsn: str, data: str) -> None:
        self._name, self._data = f"{LAKE_SCHEME}{dsn}", data
        try:
            who = f"dixa_assets {socket.gethostname()} {os.getpid()}"
            self._dsn = make_conninfo(dsn, application_name=who, **SESSION)
        except psycopg.ProgrammingError as error:
            raise ConfigError("duckdb_path", f"'{self._name}' is no address: {error}") from None
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        # A thread's turn to write; other processes are kept out by Postgres.
        self.turn = threading.RLock()
        # A writer waits in its session, which then answers no questions.
        self.writer, self.questions = _Session(self._dsn), _Session(self._dsn)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for a thread, which Postgres has just answered.

        Raises:
            WarehouseLost: The server does not answer.
        """
        return _patiently(self._cursor, self._connection is not None)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._attach()
                cursor = self._connection.cursor()
                cursor.execute(f"USE {CATALOG}; SET TimeZone = 'UTC'")
                cursor.execute(
                    "SELECT count(*) FROM duckdb_schemas() "
                    f"WHERE database_name = {literal(CATALOG)}"
                ).fetchone()
            except (duckdb.Error, psycopg.OperationalError) as error:
                was_there, self._connection = self._connection is not None, None
                # What has answered before is there: it went away, whatever the error says.
                if was_there or isinstance(error, psycopg.Error) or LOST.search(str(error)):
                    raise _lost(error) from None
                raise ConfigError(
                    "duckdb_path", f"{self._name} cannot be opened as a lake ({error})."
                ) from None
            return cursor

    def _attach(self) -> duckdb.DuckDBPyConnection:
        # Two processes must not spill into one folder; what is in it is this user's alone.
        self._spill = tempfile.TemporaryDirectory(prefix="dixa_assets-spill-")
        connection = duckdb.connect(
            config={"custom_user_agent": "dagster", "temp_directory": self._spill.name}
        )
        for extension in ("postgres_scanner", "ducklake"):
            _load(connection, extension)
        if "://" in self._data:
            _load(connection, "httpfs")
        options = f", DATA_PATH {literal(self._data)}" if self._data else ""
        with psycopg.connect(self._dsn) as session:
            session.execute(b"SET lock_timeout = '60s'")
            session.execute(b"SELECT pg_advisory_xact_lock(%s)", [ATTACHING])
            connection.execute(
                f"ATTACH {literal(LAKE_SCHEME + self._dsn)} AS {CATALOG} "
                f"(DATA_INLINING_ROW_LIMIT 0{options})"
            )
        return connection


# Warehouses of one lake differ in how long they wait for it, and share what is attached.
@functools.cache
def _attached_once(dsn: str, data: str) -> _Attached:
    return _Attached(dsn, data)


def _patiently(ask: Callable[[], T], was_there: bool) -> T:
    """An answer. A server that has answered before is waited for: it may be started again."""
    deadline = time.monotonic() + (PATIENCE if was_there else 0)
    while True:
        try:
            return ask()
        except WarehouseLost:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _lost(error: Exception) -> WarehouseLost:
    return WarehouseLost(f"the lake's Postgres does not answer: {' '.join(str(error).split())}")


def _load(connection: duckdb.DuckDBPyConnection, extension: str) -> None:
    """Load an extension: from its wheel where that is installed, otherwise from DuckDB's own."""
    try:
        wheel = files(f"duckdb_extension_{extension}")
    except ModuleNotFoundError:
        statements = f"INSTALL {extension}; LOAD {extension}"
    else:
        name = f"{extension}.duckdb_extension"
        path = wheel / "extensions" / f"v{duckdb.__version__}" / name
        statements = f"LOAD {literal(str(path))}"
    try:
        connection.execute(statements)
    except duckdb.Error as error:
        raise ConfigError(
            "duckdb_path",
            f"a lake needs DuckDB's extension '{extension}', which cannot be loaded ({error}). "
            "The extra dixa-assets[lake] brings it along.",
        ) from None


def _files(connection: duckdb.DuckDBPyConnection) -> int:
    found = connection.execute(
        f"SELECT sum(file_count)::BIGINT FROM ducklake_table_info({literal(CATALOG)})"
    ).fetchone()
    return int(found[0] or 0) if found else 0


def _snapshots(connection: duckdb.DuckDBPyConnection) -> int:
    found = connection.execute(
        f"SELECT count(*) FROM ducklake_snapshots({literal(CATALOG)})"
    ).fetchone()
    return int(found[0]) if found else 0
