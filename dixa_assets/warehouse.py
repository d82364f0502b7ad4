"""DuckDB: replace a partition whole, in one transaction, holding the file as short as can be.

A write holds the database file for as long as it takes to open, write
and close it: a lock file beside the database queues this project's own processes, and whoever
else has the file open is waited for.

No primary key, index or default expression anywhere: replacing whole partitions needs none, and
DuckDB recovers best from a crash without them.
"""

import itertools
import json
import logging
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import duckdb
import pandas as pd
from filelock import FileLock, Timeout

from dixa_assets.client import Usage
from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.extract import Window
from dixa_assets.plan import Volume
from dixa_assets.schema import METRIC_VALUES, Column, Table
from dixa_assets.staging import Counts, Staged, Types
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
from dixa_assets.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ, VARCHAR

logger = logging.getLogger(__name__)

SCHEMAS = frozenset({"dixa_metrics", "dixa_records", "dixa_filters", "dixa_catalogue"})
# Files this version of DuckDB writes can then be opened by any tool that has DuckDB 1.5.
STORAGE_VERSION = "v1.5.0"
# What a preview shows: types whose values name nobody.
IMPERSONAL = frozenset({BOOLEAN, BIGINT, DOUBLE, DATE, TIMESTAMPTZ})
PREVIEWED = 5
# One thread that writes out each row group when it is full; else DuckDB keeps ten in memory.
SPARING = "SET threads = 1; SET write_buffer_row_group_count = 1"
# The read copy's name while it is made.
COPY = "dixa read copy"
# So many of a record's latest loads tell how many rows its days have.
LOADS_THAT_TELL = 30


class Query(Protocol):
    """Answers queries, with instants in UTC."""

    def __call__(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of one, its parameters bound."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """Rows that were fetched together, and what is noted of them in `dixa_catalogue.loads`.

    They replace all rows of `days`, or of the whole table when there are none.
    """

    run_id: str
    started: float
    parts: Sequence[Staged]
    days: Sequence[Window] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    breakdowns: Sequence[str] = ()

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def usage(self) -> Usage:
        """What all parts have cost."""
        return sum((part.usage for part in self.parts), Usage())

    def by_day(self) -> Iterator[tuple[Window, Counts, Usage]]:
        """Each day with its counts; what the days have cost together is the first one's."""
        usage = self.usage
        for day in self.days:
            key = day.day.isoformat()
            yield day, sum((part.days[key] for part in self.parts), Counts()), usage
            usage = Usage()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did to the table: its changes in words, its columns now, a few of its rows.

    The rows shown are numbers, instants and yes or no, never text, which may be personal.
    """

    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]
    preview: pd.DataFrame


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
        self._founded: int | None = None

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
        self, loads: Sequence[Load], *, view: Table | None = None, metric: str | None = None
    ) -> Written:
        """Replace what the loads are about by their rows.

        Columns are added and widened first, in a transaction of their own; then one transaction
        takes the old rows out, puts the new ones in and notes the loads. Whatever fails, every
        partition is as it was.

        Args:
            loads: Loads of one table.
            view: For a metric, the relation over the shared table that people use.
            metric: The metric whose rows are replaced, where a table holds several.
        """
        parts = [part for load in loads for part in load.parts]
        table = parts[0].table
        for part in parts:
            part.close()
        scope: dict[str, Sequence[str]] = {}
        if any(load.days for load in loads):
            scope["partition_date"] = [day.day.isoformat() for load in loads for day in load.days]
        if metric is not None:
            scope["metric"] = [metric]
        where = (
            " AND ".join(f"{quote(name)} IN ({_marks(v)})" for name, v in scope.items()) or "true"
        )
        values = [*itertools.chain(*scope.values())]
        with self._connect() as connection, _naming(self.path, table, scope):
            self._ensure_foundation(connection)
            connection.execute(SPARING)
            types = sum((part.types for part in parts), Types())
            columns, changes = evolve(connection, table, types)
            if view is not None and metric is not None:
                ensure_metric_view(connection, view, metric)
            with transaction(connection):
                connection.execute(f"DELETE FROM {relation_of(table)} WHERE {where}", values)
                for load in loads:
                    for part in load.parts:
                        _insert(connection, part, columns, load.run_id)
                _note_loads(connection, (view or table).key, loads, changes)
            plain = [column for column in columns if column.type in IMPERSONAL]
            preview = connection.execute(
                f"SELECT {names_of(plain) or 'NULL'} FROM {relation_of(table)} WHERE {where} "
                f"ORDER BY rowid DESC LIMIT {PREVIEWED}",
                values,
            ).df()
        return Written(tuple(changes), tuple(columns), preview)

    def volumes(self) -> dict[str, Volume]:
        """What the latest loads of each record brought, by asset key."""
        found = self.query(
            "SELECT asset_key, count(*) AS days, sum(rows)::BIGINT AS rows, "
            "bool_or(astray) AS astray FROM (SELECT *, bool_or(rows_outside_window > 0) "
            "OVER (PARTITION BY asset_key) AS astray FROM dixa_catalogue.loads "
            "WHERE partition_date IS NOT NULL AND asset_key LIKE 'dixa_records/%' "
            "QUALIFY row_number() OVER (PARTITION BY asset_key ORDER BY loaded_at DESC) <= ?) "
            "GROUP BY asset_key",
            [LOADS_THAT_TELL],
        )
        return {
            row["asset_key"]: Volume(row["days"], row["rows"], row["astray"])
            for row in found.to_dict("records")
        }

    def publish(self, path: Path) -> int:
        """Put a compact copy of the database at `path`, for programs that keep it open; its bytes.

        Whoever has the old copy open goes on reading it; the next to open the path gets the new.
        """
        self._make_folder(path.parent)
        # Made in a folder, because DuckDB names a database after its file.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            with self._connect() as connection:
                self._ensure_foundation(connection)
                (own,) = connection.execute("SELECT current_database()").fetchone() or ("",)
                connection.execute(
                    f"ATTACH {literal(str(made))} AS {quote(COPY)} "
                    f"(STORAGE_VERSION {literal(STORAGE_VERSION)})"
                )
                connection.execute(f"COPY FROM DATABASE {quote(own)} TO {quote(COPY)}")
                connection.execute(f"DETACH {quote(COPY)}")
            with duckdb.connect(str(made), config=dict(self._config)) as connection:
                ensure_daily_view(connection)
            size = made.stat().st_size
            os.replace(made, path)
        return size

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
        waits_for = ""
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
                if waits_for != _holder(str(error)):
                    waits_for = _holder(str(error))
                    logger.warning(
                        "waiting for %s, which has %s open; close it there, or open the read copy "
                        "instead",
                        waits_for,
                        self.path,
                    )
                # Jitter, so that several waiters do not ask in step.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
            except duckdb.Error as error:
                raise WarehouseError(f"{self.path} cannot be opened: {error}") from None

    def _ensure_foundation(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the project's own tables in a new database; refuse one of another zone."""
        # Looked at once, as long as the file is the same one.
        file = self.path.stat().st_ino
        if file == self._founded:
            return
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
            self._founded = file
            return
        days = connection.execute(
            f"SELECT count(*) FROM {relation_of(LOADS)} WHERE partition_date IS NOT NULL"
        ).fetchone()
        if days == (0,):
            connection.execute(f"UPDATE {relation_of(WAREHOUSE)} SET timezone = ?", [self.timezone])
            self._founded = file
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
def _naming(path: Path, table: Table, scope: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Tell DuckDB's errors during a write as what they mean for the table."""
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(
            f"{table.key} in {path} could not be written and is as it was "
            f"({', '.join(itertools.chain(*scope.values())) or 'all rows'}): {error}"
        ) from error


def _insert(
    connection: duckdb.DuckDBPyConnection, staged: Staged, columns: Sequence[Column], run_id: str
) -> None:
    """Put the rows of a staged file into its table."""
    if not staged.rows:
        return
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
    inserted = connection.execute(
        f"INSERT INTO {relation_of(staged.table)} ({names}) "
        f"SELECT {', '.join(select.values())}, now(), ? "
        f"FROM read_json({literal(str(staged.path))}, format = 'newline_delimited', "
        f"columns = {{{reading}}}, maximum_object_size = {4 * staged.longest_line + 65536})",
        [run_id],
    )
    if inserted.fetchone() != (staged.rows,):
        raise WarehouseError(
            f"{staged.table.key}: the staged file {staged.path} does not hold the "
            f"{staged.rows} rows that were put into it; the partition is as it was."
        )


def _note_loads(
    connection: duckdb.DuckDBPyConnection,
    asset_key: str,
    loads: Sequence[Load],
    changes: Sequence[str],
) -> None:
    rows = []
    for load in loads:
        common = {
            "asset_key": asset_key,
            "seconds": time.monotonic() - load.started,
            "filters": json.dumps({name: list(values) for name, values in load.filters.items()}),
            "breakdowns": json.dumps(list(load.breakdowns)),
            "schema_changes": "[]",
            "loaded_at": datetime.now(UTC),
            "run_id": load.run_id,
        }
        if not load.days:
            rows.append(common | {"rows": load.rows} | _spent(load.usage))
        for day, counts, usage in load.by_day():
            rows.append(
                common
                | {
                    "partition_date": day.day,
                    "interval_start": day.start,
                    "interval_end": day.end,
                    "timezone": day.timezone,
                    "rows": counts.rows,
                    "rows_outside_window": counts.outside_window,
                    "nulls": json.dumps(counts.nulls),
                }
                | _spent(usage)
            )
    rows[0]["schema_changes"] = json.dumps(list(changes))
    names = [column.name for column in LOADS.columns]
    days = [row.get("partition_date") for row in rows]
    connection.execute(
        f"DELETE FROM {relation_of(LOADS)} WHERE asset_key = ? "
        f"AND (partition_date IS NULL AND ? OR partition_date IN ({_marks(days)}))",
        [asset_key, None in days, *days],
    )
    connection.execute(
        f"INSERT INTO {relation_of(LOADS)} VALUES " + ", ".join(f"({_marks(names)})" for _ in rows),
        [row.get(name) for row in rows for name in names],
    )


def _spent(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in ("requests", "retries", "pages", "bytes")}


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" for _ in values)


def _holder(error: str) -> str:
    """Who holds the file, from DuckDB's own message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", error)
    return f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
