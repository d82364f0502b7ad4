"""DuckDB: make sure of a table, widen it where data ask for it, replace a partition whole.

The only module with SQL. A write holds the database file for as long as it takes to open, write
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
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pandas as pd
from filelock import FileLock, Timeout

from dixa_assets.errors import ConfigError, WarehouseBusy, WarehouseError
from dixa_assets.extract import Staged, Window
from dixa_assets.schema import (
    BIGINT,
    DATE,
    DOUBLE,
    EXACT_IN_DOUBLE,
    JSON,
    METRIC_COLUMNS,
    METRIC_VALUES,
    METRICS_DAILY,
    TIMESTAMPTZ,
    VARCHAR,
    Column,
    Table,
    column_name,
    columns_by_source,
    comment_of,
    widest,
)

# Files this version of DuckDB writes can then be opened by any tool that has DuckDB 1.5.
STORAGE_VERSION = "v1.5.0"

LOADS = Table(
    "dixa_catalogue",
    "loads",
    "One row per loaded partition: what its latest load asked for, got and cost.",
    (
        Column("asset_key", VARCHAR, "The asset, as schema/relation."),
        Column("partition_date", DATE, "The local day; NULL for assets without partitions."),
        Column("interval_start", TIMESTAMPTZ, "First instant that was asked for."),
        Column("interval_end", TIMESTAMPTZ, "First instant after what was asked for."),
        Column("timezone", VARCHAR, "The zone of the day."),
        Column("rows", BIGINT, "Rows written."),
        Column("rows_outside_window", BIGINT, "Rows whose timestamp lies outside the window."),
        Column("requests", BIGINT, "Requests sent, retries included."),
        Column("retries", BIGINT, "Requests that were repeats of a failed one."),
        Column("pages", BIGINT, "Pages read."),
        Column("bytes", BIGINT, "Bytes of the answers' bodies."),
        Column("seconds", DOUBLE, "From the first request to the commit."),
        Column("filters", JSON, "Filters sent with every request."),
        Column("breakdowns", JSON, "Attributes the metric was broken down by."),
        Column("schema_changes", JSON, "Columns this load added or widened."),
        Column("loaded_at", TIMESTAMPTZ, "When the partition was committed."),
        Column("run_id", VARCHAR, "The Dagster run."),
    ),
)
COLUMNS = Table(
    "dixa_catalogue",
    "columns",
    "Every column of every table, with the field of Dixa's it comes from.",
    (
        Column("table_schema", VARCHAR, "Schema of the table."),
        Column("table_name", VARCHAR, "The table."),
        Column("column_name", VARCHAR, "The column."),
        Column("type", VARCHAR, "Its type; NULL while no value has shown one."),
        Column("comment", VARCHAR, "What it holds."),
        Column("field", VARCHAR, "Dixa's name of the field; empty for the project's own."),
        Column("part", VARCHAR, "Whether it holds the field's value or its label."),
    ),
)
WAREHOUSE = Table(
    "dixa_catalogue",
    "warehouse",
    "What the whole warehouse has in common.",
    (
        Column("timezone", VARCHAR, "The zone whose midnights bound every partition."),
        Column("created_at", TIMESTAMPTZ, "When the first table was made."),
    ),
)


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
        for left in root.iterdir():
            lock = FileLock(f"{left}.lock", blocking=False)
            if left.is_dir():
                with suppress(Timeout), lock:
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
        with self._connect() as connection:
            self._ensure_foundation(connection)
            columns, changes = _evolve(connection, staged)
            with _transaction(connection):
                where = " AND ".join(f"{quote(name)} = ?" for name in scope) or "true"
                connection.execute(
                    f"DELETE FROM {_relation(table)} WHERE {where}", list(scope.values())
                )
                if staged.rows:
                    connection.execute(_insert(staged, columns), [load.run_id])
                _note_load(connection, (view or table).key, staged, load, changes)
            if view is not None:
                _ensure_metric_view(connection, view, scope["metric"])
        return Written(staged.rows, tuple(changes), tuple(columns))

    def check(self) -> None:
        """Raise what would keep a load from writing: folder, file, lock, timezone."""
        with self._connect() as connection:
            self._ensure_foundation(connection)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The result of a query, with instants in UTC."""
        with self._connect() as connection:
            return connection.execute(sql, list(parameters)).df()

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
        except duckdb.Error as error:
            raise WarehouseError(
                f"{self.path}: DuckDB refused, and nothing of this write was kept: {error}"
            ) from error

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
            with _transaction(connection):
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    _create(connection, table, table.columns)
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    _remember_columns(connection, table, table.columns)
                connection.execute(
                    f"INSERT INTO {_relation(WAREHOUSE)} VALUES (?, ?)",
                    [self.timezone, datetime.now(UTC)],
                )
            connection.execute("CHECKPOINT")
        _ensure_daily_view(connection)
        found = connection.execute(f"SELECT timezone FROM {_relation(WAREHOUSE)}").fetchone()
        if found != (self.timezone,):
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


def quote(identifier: str) -> str:
    """An SQL identifier, whatever the text."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _relation(table: Table) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(quote(column.name) for column in columns)


def _physical(type_: str | None) -> str:
    return type_ or VARCHAR


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT has already ended the transaction.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def _create(connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]) -> None:
    definitions = ", ".join(f"{quote(c.name)} {_physical(c.type)}" for c in columns)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
    connection.execute(f"CREATE TABLE {_relation(table)} ({definitions})")
    _comment(connection, "TABLE", table, columns)


def _create_view(connection: duckdb.DuckDBPyConnection, view: Table, select: str) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(view.schema)}")
    connection.execute(f"CREATE OR REPLACE VIEW {_relation(view)} AS {select}")
    _comment(connection, "VIEW", view, view.columns)


def _comment(
    connection: duckdb.DuckDBPyConnection, kind: str, table: Table, columns: Sequence[Column]
) -> None:
    relation = _relation(table)
    connection.execute(f"COMMENT ON {kind} {relation} IS {literal(table.comment)}")
    for column in columns:
        connection.execute(
            f"COMMENT ON COLUMN {relation}.{quote(column.name)} IS {literal(comment_of(column))}"
        )


def _table_comment(connection: duckdb.DuckDBPyConnection, table: Table) -> str:
    found = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    ).fetchone()
    return (found and found[0]) or ""


def _ensure_daily_view(connection: duckdb.DuckDBPyConnection) -> None:
    """The view over all metrics, where `dixa.metrics_daily` finds it.

    A database file is a catalog named after it. In `dixa.duckdb` a schema `dixa` would make every
    `dixa.…` ambiguous, while the catalog's own schema answers to `dixa.metrics_daily` just so.
    """
    in_own_catalog = connection.execute(
        "SELECT lower(current_database()) = ?", [METRICS_DAILY.schema]
    ).fetchone() == (True,)
    view = replace(METRICS_DAILY, schema="main") if in_own_catalog else METRICS_DAILY
    found = connection.execute(
        "SELECT count(*) FROM duckdb_views() WHERE schema_name = ? AND view_name = ?",
        [view.schema, view.name],
    ).fetchone()
    if found == (1,):
        return
    with _transaction(connection):
        # The file may have had another name before.
        if in_own_catalog:
            schema = quote(METRICS_DAILY.schema)
            connection.execute(f"DROP SCHEMA IF EXISTS {schema}.{schema} CASCADE")
        _create_view(
            connection,
            view,
            f"SELECT {_names(view.columns)} FROM {_relation(METRIC_VALUES)}",
        )


def _ensure_metric_view(connection: duckdb.DuckDBPyConnection, view: Table, metric_id: str) -> None:
    """The view of one metric, made when missing and commented anew when its description changed."""
    found = connection.execute(
        "SELECT comment FROM duckdb_views() WHERE schema_name = ? AND view_name = ?",
        [view.schema, view.name],
    ).fetchone()
    if found is None or (found[0] or "") != view.comment:
        with _transaction(connection):
            _create_view(
                connection,
                view,
                f"SELECT {_names(METRIC_COLUMNS)} FROM {_relation(METRIC_VALUES)} "
                f"WHERE metric = {literal(metric_id)}",
            )


def _evolve(
    connection: duckdb.DuckDBPyConnection, staged: Staged
) -> tuple[list[Column], list[str]]:
    """Bring the table to where the staged rows fit; its columns, and what was changed."""
    table = staged.table
    known = _known_columns(connection, table)
    columns, changes = _plan(connection, staged, known)
    if known and columns == known and _table_comment(connection, table) == table.comment:
        return columns, []
    before = {column.name: column for column in known}
    with _transaction(connection):
        if not known:
            _create(connection, table, columns)
            changes = []
        else:
            relation = _relation(table)
            for column in columns:
                name = quote(column.name)
                old = before.get(column.name)
                if old is None:
                    connection.execute(
                        f"ALTER TABLE {relation} ADD COLUMN {name} {_physical(column.type)}"
                    )
                elif _physical(old.type) != _physical(column.type):
                    connection.execute(
                        f"ALTER TABLE {relation} ALTER COLUMN {name} "
                        f"SET DATA TYPE {column.type} USING {_converted(name, old.type, column)}"
                    )
            _comment(connection, "TABLE", table, [c for c in columns if c not in known])
        _remember_columns(connection, table, columns)
    # DuckDB 1.5 recovers from a crash more surely when no ALTER waits in its log.
    connection.execute("CHECKPOINT")
    return columns, changes


def _plan(
    connection: duckdb.DuckDBPyConnection, staged: Staged, known: Sequence[Column]
) -> tuple[list[Column], list[str]]:
    """The columns the table must have, and in words how that differs from those it has."""
    table = staged.table
    head = [column for column in table.columns if not column.part and column.name not in _TAIL]
    tail = [column for column in table.columns if column.name in _TAIL]
    columns = list(known) or head
    declared = columns_by_source(table.columns)
    changes: list[str] = []
    sources = dict.fromkeys([*_in_order(staged, declared)])
    for source in sources:
        seen = staged.types.get(source)
        taken = [column.name for column in (*columns, *tail)]
        old = columns_by_source(columns).get(source)
        comment = declared[source].comment if source in declared else ""
        if old is None:
            name = column_name(*source, taken)
            columns.append(Column(name, seen, comment, *source))
            changes.append(f"new column {name} ({_physical(seen)})")
            continue
        exact = source not in staged.inexact and _is_exact(connection, table, old, seen)
        wider = widest(old.type, seen, exact=exact)
        new = Column(old.name, wider, comment or old.comment, *source)
        columns[columns.index(old)] = new
        if old.type is not None and wider != old.type:
            changes.append(f"column {old.name} widened from {old.type} to {wider}")
    if not known:
        columns += tail
    return columns, changes


_TAIL = ("loaded_at", "run_id")


def _in_order(
    staged: Staged, declared: Mapping[tuple[str, str], Column]
) -> Iterator[tuple[str, str]]:
    """Sources in the order of a new table's columns: the value, each field with its label."""
    fields = dict.fromkeys([name for name, _ in (*declared, *staged.types)])
    for name in sorted(fields, key=lambda each: each != ""):
        for source in ((name, "value"), (name, "label")):
            if source in declared or source in staged.types:
                yield source


def _is_exact(
    connection: duckdb.DuckDBPyConnection, table: Table, column: Column, seen: str | None
) -> bool:
    """Whether every integer the column holds is the same number as a DOUBLE."""
    if column.type != BIGINT or seen != DOUBLE:
        return True
    found = connection.execute(
        f"SELECT count(*) FROM {_relation(table)} WHERE {quote(column.name)} NOT BETWEEN ? AND ?",
        [-EXACT_IN_DOUBLE, EXACT_IN_DOUBLE],
    ).fetchone()
    return found == (0,)


def _converted(name: str, old: str | None, column: Column) -> str:
    """The expression that turns a column's old values into its new type without loss."""
    if old is None:
        return f"NULL::{column.type}"
    text = name
    if old == TIMESTAMPTZ:
        text = f"strftime({name}, {literal(_ISO)})"
    elif old == f"{TIMESTAMPTZ}[]":
        text = f"list_transform({name}, lambda each: strftime(each, {literal(_ISO)}))"
    return f"to_json({text})" if column.type == JSON else f"CAST({text} AS {column.type})"


_ISO = "%Y-%m-%dT%H:%M:%S.%f+00:00"


def _insert(staged: Staged, columns: Sequence[Column]) -> str:
    """INSERT … SELECT from the staged file; its one parameter is the run's id."""
    read, select = {}, {}
    for column in columns:
        if column.name in _TAIL:
            continue
        key = staged.keys.get((column.field, column.part)) if column.part else column.name
        if key is None:
            continue
        # Instants are read as text: DuckDB's own cast knows offsets, its JSON reader not all.
        stored = _physical(column.type)
        read[key] = stored.replace(TIMESTAMPTZ, VARCHAR)
        select[column.name] = f"CAST({quote(key)} AS {stored})"
    reading = ", ".join(f"{literal(key)}: {literal(type_)}" for key, type_ in read.items())
    names = ", ".join(quote(name) for name in (*select, *_TAIL))
    return (
        f"INSERT INTO {_relation(staged.table)} ({names}) "
        f"SELECT {', '.join(select.values())}, now(), ? "
        f"FROM read_json({literal(str(staged.path))}, format = 'newline_delimited', "
        f"columns = {{{reading}}}, maximum_object_size = 268435456)"
    )


def _known_columns(connection: duckdb.DuckDBPyConnection, table: Table) -> list[Column]:
    rows = connection.execute(
        f"SELECT column_name, type, comment, field, part FROM {_relation(COLUMNS)} "
        "WHERE table_schema = ? AND table_name = ? ORDER BY rowid",
        [table.schema, table.name],
    ).fetchall()
    return [Column(*row) for row in rows]


def _remember_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Column]
) -> None:
    connection.execute(
        f"DELETE FROM {_relation(COLUMNS)} WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    )
    connection.executemany(
        f"INSERT INTO {_relation(COLUMNS)} VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(table.schema, table.name, c.name, c.type, c.comment, c.field, c.part) for c in columns],
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
        f"DELETE FROM {_relation(LOADS)} WHERE asset_key = ? AND partition_date IS NOT DISTINCT "
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
        f"INSERT INTO {_relation(LOADS)} ({_names(LOADS.columns)}) VALUES ({marks})",
        list(row.values()),
    )


def _holder(error: str) -> str:
    """Who holds the file, from DuckDB's own message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", error)
    return f"{Path(found[1]).name} (process {found[2]})" if found else "another process"
