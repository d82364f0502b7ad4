"""DuckDB: replace a partition whole, in one transaction, holding the file as short as can be.

A write holds the database file for as long as it takes to open, write
and close it: a lock file beside the database queues this project's own processes, and whoever
else has the file open is waited for.

No primary key, index or default expression anywhere: replacing whole partitions needs none, and
DuckDB recovers best from a crash without them.
"""

import json
import random
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import duckdb
import pandas as pd
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.extract import Window
from dixa_assets.schema import METRIC_VALUES, Column, Table
from dixa_assets.staging import Staged
from dixa_assets.tables import (
    COLUMNS,
    LOADS,
    TAIL,
    WAREHOUSE,
    create_table,
    ensure_daily_view,
    ensure_metric_view,
    evolve,
    literal,
    names_of,
    physical,
    quote,
    relation_of,
    remember_columns,
    transaction,
)
from dixa_assets.values import TIMESTAMPTZ, VARCHAR

SCHEMAS = frozenset({"dixa_metrics", "dixa_records", "dixa_filters", "dixa_catalogue"})
# Files this version of DuckDB writes can then be opened by any tool that has DuckDB 1.5.
STORAGE_VERSION = "v1.5.0"


class Query(Protocol):
    """Answers queries, with instants in UTC."""

    def __call__(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of one, its parameters bound."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a load beside its rows, for `dixa_catalogue.loads`."""

    run_id: str
    started: float
    window: Window | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: rows now in the partition, schema changes, the table's columns."""

    rows: int
    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]


class Warehouse:
    """A DuckDB file as this project writes it.

    Args:
        path: The database file; its folder is made when missing.
        timezone: The zone of the partitions. A warehouse holds days of one zone only.
        connection_config: DuckDB settings, as DuckDBResource takes them.
        wait_seconds: How long another holder of the file is waited for.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        timezone: str,
        connection_config: Mapping[str, Any] | None = None,
        wait_seconds: float = 600.0,
    ) -> None:
        self.path = Path(path)
        if self.path.stem.lower() in SCHEMAS:
            raise ConfigError(
                "DIXA_DUCKDB_PATH",
                f"'{self.path.name}' is named like a schema in it, and DuckDB could not tell "
                f"'{self.path.stem}.table' from a table of the whole file. Take another name.",
            )
        self.timezone = timezone
        # The agent string is the one DuckDBResource sets: one process may not open the same file
        # with two configurations.
        self._config = {
            "custom_user_agent": "dagster",
            "storage_compatibility_version": STORAGE_VERSION,
            **(connection_config or {}),
        }
        self._wait_seconds = wait_seconds

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder beside the database for files to be loaded, gone afterwards.

        What a killed process left behind is removed by the next one: a folder whose lock is free
        has no owner.
        """
        root = Path(f"{self.path}.staging")
        self._make_folder(root)
        for left in {path.with_suffix("") for path in root.iterdir()}:
            with suppress(Timeout), FileLock(f"{left}.lock", blocking=False) as lock:
                shutil.rmtree(left, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
        folder = root / uuid4().hex
        with FileLock(f"{folder}.lock") as lock:
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def replace(
        self, staged: Staged, scope: Mapping[str, str], load: Load, view: Table | None = None
    ) -> Written:
        """Replace the rows of `scope` (column to value; empty: all rows) by the staged ones.

        Columns are added and widened first, in a transaction of their own; then one transaction
        takes the old rows out, puts the new ones in and notes the load. Whatever fails, the
        partition is as it was.

        Args:
            staged: The new rows and their table.
            scope: Which rows they replace.
            load: What to note of the load.
            view: For a metric, the relation over the shared table that people use.
        """
        staged.close()
        table = staged.table
        with self._connect() as connection, _naming(self.path, table, scope):
            self._ensure_foundation(connection)
            columns, changes = evolve(connection, staged)
            if view is not None:
                ensure_metric_view(connection, view, scope["metric"])
            with transaction(connection):
                where = " AND ".join(f"{quote(name)} = ?" for name in scope) or "true"
                connection.execute(
                    f"DELETE FROM {relation_of(table)} WHERE {where}", list(scope.values())
                )
                if staged.rows:
                    inserted = connection.execute(_insert(staged, columns), [load.run_id])
                    if inserted.fetchone() != (staged.rows,):
                        raise WarehouseError(
                            f"{table.key}: the staged file {staged.path} does not hold the "
                            f"{staged.rows} rows that were put into it; the partition is as it was."
                        )
                _note_load(connection, (view or table).key, staged, load, changes)
        return Written(staged.rows, tuple(changes), tuple(columns))

    def check(self) -> None:
        """Raise what would keep a load from writing: folder, file, lock, timezone."""
        with self._connect() as connection:
            self._ensure_foundation(connection)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of a query, with instants in UTC."""
        with self.reading() as query:
            return query(sql, parameters)

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """A function that answers queries like `query`, for several in a row."""
        with self._connect() as connection:
            self._ensure_foundation(connection)
            yield lambda sql, parameters=(): connection.execute(sql, list(parameters)).df()

    @contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._make_folder(self.path.parent)
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
            raise ConfigError("DIXA_DUCKDB_PATH", f"cannot be written ({error}).") from None

    def _open(self, deadline: float) -> duckdb.DuckDBPyConnection:
        while True:
            try:
                return duckdb.connect(str(self.path), config=dict(self._config))
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise ConfigError(
                        "DIXA_DUCKDB_PATH",
                        f"'{self.path}' cannot be opened as a database for writing ({error}).",
                    ) from None
                if time.monotonic() > deadline:
                    raise WarehouseBusy(
                        f"{self.path}: {_holder(str(error))} has had the database open for "
                        f"{self._wait_seconds:.0f} s and keeps every load out. Close it there, "
                        "then load again; nothing was written."
                    ) from None
                # Jitter, so that several waiters do not ask in step.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
            except duckdb.Error as error:
                raise WarehouseError(f"{self.path} cannot be opened: {error}") from None

    def _ensure_foundation(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the project's own tables in a new database; refuse one of another zone."""
        exists = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?",
            [WAREHOUSE.schema, WAREHOUSE.name],
        ).fetchone()
        if exists == (0,):
            with transaction(connection):
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    create_table(connection, table, table.columns)
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    remember_columns(connection, table, table.columns)
                connection.execute(
                    f"INSERT INTO {relation_of(WAREHOUSE)} VALUES (?, ?)",
                    [self.timezone, datetime.now(UTC)],
                )
            connection.execute("CHECKPOINT")
        ensure_daily_view(connection)
        found = connection.execute(f"SELECT timezone FROM {relation_of(WAREHOUSE)}").fetchone()
        if found == (self.timezone,):
            return
        days = connection.execute(
            f"SELECT count(*) FROM {relation_of(LOADS)} WHERE partition_date IS NOT NULL"
        ).fetchone()
        if days == (0,):
            connection.execute(f"UPDATE {relation_of(WAREHOUSE)} SET timezone = ?", [self.timezone])
        else:
            raise ConfigError(
                "DIXA_TIMEZONE",
                f"is {self.timezone}, but {self.path} holds days of {found and found[0]}, and days "
                "of two zones cannot stand in one table. Set it back, or load into another file "
                "(DIXA_DUCKDB_PATH).",
            )

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                "DIXA_DUCKDB_PATH", f"its folder {folder} cannot be made ({error.strerror})."
            ) from None


@contextmanager
def _naming(path: Path, table: Table, scope: Mapping[str, str]) -> Iterator[None]:
    """Tell DuckDB's errors during a write as what they mean for the table."""
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(
            f"{table.key} in {path} could not be written and is as it was "
            f"({', '.join(scope.values()) or 'all rows'}): {error}"
        ) from error


def _insert(staged: Staged, columns: Sequence[Column]) -> str:
    """INSERT … SELECT from the staged file; its one parameter is the run's id."""
    read, select = {}, {}
    for column in columns:
        if column.name in TAIL:
            continue
        key = staged.keys.get((column.field, column.part)) if column.part else column.name
        if key is None:
            continue
        # Instants are read as text: DuckDB's own cast knows offsets, its JSON reader not all.
        stored = physical(column.type)
        read[key] = stored.replace(TIMESTAMPTZ, VARCHAR)
        select[column.name] = f"CAST({quote(key)} AS {stored})"
    reading = ", ".join(f"{literal(key)}: {literal(type_)}" for key, type_ in read.items())
    names = ", ".join(quote(name) for name in (*select, *TAIL))
    return (
        f"INSERT INTO {relation_of(staged.table)} ({names}) "
        f"SELECT {', '.join(select.values())}, now(), ? "
        f"FROM read_json({literal(str(staged.path))}, format = 'newline_delimited', "
        f"columns = {{{reading}}}, maximum_object_size = {4 * staged.longest_line + 65536})"
    )


def _note_load(
    connection: duckdb.DuckDBPyConnection,
    asset_key: str,
    staged: Staged,
    load: Load,
    changes: Sequence[str],
) -> None:
    window, usage = load.window, staged.usage
    day: date | None = window.day if window else None
    connection.execute(
        f"DELETE FROM {relation_of(LOADS)} WHERE asset_key = ? AND partition_date IS NOT DISTINCT "
        "FROM ?",
        [asset_key, day],
    )
    row = {
        "asset_key": asset_key,
        "partition_date": day,
        "interval_start": window.start if window else None,
        "interval_end": window.end if window else None,
        "timezone": window.timezone if window else None,
        "rows": staged.rows,
        "rows_outside_window": staged.outside_window,
        "nulls": json.dumps(staged.nulls),
        "requests": usage.requests,
        "retries": usage.retries,
        "pages": usage.pages,
        "bytes": usage.bytes,
        "seconds": time.monotonic() - load.started,
        "filters": json.dumps({name: list(values) for name, values in load.filters.items()}),
        "breakdowns": json.dumps(list(load.breakdowns)),
        "schema_changes": json.dumps(list(changes)),
        "loaded_at": datetime.now(UTC),
        "run_id": load.run_id,
    }
    marks = ", ".join("?" for _ in row)
    connection.execute(
        f"INSERT INTO {relation_of(LOADS)} ({names_of(LOADS.columns)}) VALUES ({marks})",
        list(row.values()),
    )


def _holder(error: str) -> str:
    """Who holds the file, from DuckDB's own message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", error)
    return f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
