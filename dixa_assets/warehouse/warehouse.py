"""The warehouse: a partition is replaced whole, in one transaction.

The database is held for as long as a write takes.

No primary key, index or default expression anywhere: replacing whole partitions needs none, and
DuckDB recovers best from a crash without them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from dixa_assets.errors import ConfigError, WarehouseError, WarehouseLost
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.counts import Types, Volume
from dixa_assets.model.tables import (
    COLUMNS,
    LAKE_SCHEME,
    LOADS,
    METRIC_VALUES,
    WAREHOUSE,
    Column,
    Relation,
)
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ, VARCHAR
from dixa_assets.staging import Staged
from dixa_assets.warehouse import load_log
from dixa_assets.warehouse.catalogue import remembered
from dixa_assets.warehouse.engine import WAIT_SECONDS, Engine
from dixa_assets.warehouse.file import DuckDBFile
from dixa_assets.warehouse.load_log import Batch
from dixa_assets.warehouse.move import attached
from dixa_assets.warehouse.schema import (
    TAIL,
    Plan,
    add_missing_columns,
    carry_out,
    create_table,
    ensure_daily_view,
    fields_of,
    physical,
    planned,
    remember_columns,
    settle,
)
from dixa_assets.warehouse.sql import Query, literal, marks, name_of, names_of, quote, transaction
from dixa_assets.zones import is_same_zone

if TYPE_CHECKING:
    import pandas as pd

# The types that a preview shows: their values name nobody.
IMPERSONAL = frozenset({BOOLEAN, BIGINT, DOUBLE, DATE, TIMESTAMPTZ})
PREVIEWED = 5
# One thread, and each row group written out when it is full: DuckDB would keep ten in memory.
SPARING = "SET threads = 1; SET write_buffer_row_group_count = 1"
# Two writes that overlap both change this row, and a lake lets one of them commit: should the lock
# ever be lost, no day is written twice.
FENCE = f"UPDATE {name_of(WAREHOUSE)} SET created_at = created_at"


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did to the table: its changes in words, its columns now, a few of its rows.

    The rows shown are numbers, instants and yes or no, never text, which may be personal.
    """

    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]
    preview: "pd.DataFrame"


class Warehouse:
    """A database as this project writes it.

    Args:
        path: The database file, whose folder is made when missing; or the address of a lake,
            `ducklake:postgres:dbname=… host=…`.
        timezone: The zone of the partitions. A warehouse holds days of one zone only.
        account: Whose days it holds, and of no other account's.
        host: The API's host that they come from; empty if that does not matter.
        connection_config: DuckDB settings, as DuckDBResource takes them.
        wait_seconds: How long another holder of the file is waited for, or another writer.
        lake_data: Where a new lake keeps its rows: a folder that all machines have, or `s3://…`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        timezone: str,
        account: str = "",
        host: str = "",
        connection_config: Mapping[str, Any] | None = None,
        wait_seconds: float = WAIT_SECONDS,
        lake_data: str = "",
    ) -> None:
        self.path = Path(path)
        self.timezone = timezone
        self._account, self._host = account, host
        self._engine = _open(str(path), connection_config or {}, wait_seconds, lake_data)
        self.name = self._engine.name
        self.staging = self._engine.staging
        self.changed_at = self._engine.changed_at
        self._founded = ""

    def replace(self, relation: Relation, batches: Sequence[Batch]) -> Written:
        """Replace what the batches are about by their rows.

        Columns are added and widened first, in a transaction of their own; then one transaction
        takes the old rows out, puts the new ones in and notes the loads. Whatever fails, every
        partition is as it was.
        """
        for batch in batches:
            for part in batch.parts:
                part.close()
        try:
            return self._replace(relation, batches)
        except WarehouseLost:
            # Whichever rows are there now, what was to be written is still staged.
            return self._replace(relation, batches)

    def _replace(self, relation: Relation, batches: Sequence[Batch]) -> Written:
        types = sum((part.types for batch in batches for part in batch.parts), Types())
        days = [day.day.isoformat() for batch in batches for day in batch.days]
        scope = {"partition_date": days} if days else {}
        scope |= {name: [value] for name, value in relation.only.items()}
        where = " AND ".join(f"{quote(name)} IN ({marks(v)})" for name, v in scope.items())
        rows = f"{name_of(relation.stored_in)} WHERE {where or 'true'}"
        values = [*itertools.chain(*scope.values())]

        def put(plan: Plan) -> Written:
            if self._engine.is_shared:
                connection.execute(FENCE)
            connection.execute(f"DELETE FROM {rows}", values)
            for batch in batches:
                for part in batch.parts:
                    _insert(connection, part, plan.columns, batch)
            load_log.note(connection, relation.key, batches, plan.changes)
            plain = [column for column in plan.columns if column.type in IMPERSONAL]
            preview = connection.execute(
                f"SELECT {names_of(plain) or 'NULL'} FROM {rows} "
                f"ORDER BY rowid DESC LIMIT {PREVIEWED}",
                values,
            ).df()
            return Written(tuple(plan.changes), tuple(plan.columns), preview)

        with self._connect() as connection, self._naming(relation, values):
            connection.execute(SPARING)
            # One transaction where nothing is to be changed first: a lake's Postgres is asked anew
            # for each.
            with transaction(connection):
                self._ensure_own(connection)
                needed = planned(connection, relation, types)
                if needed.is_met:
                    return put(needed)
            carry_out(connection, relation, needed, self._engine.dialect)
            with transaction(connection):
                return put(needed)

    @property
    def identity(self) -> str:
        """Which database it is: where, and which of those that have stood there."""
        return self._engine.identity

    def loaded(self) -> set[tuple[str, str]]:
        """What the load log notes: asset key and day, the day empty for a whole table."""
        if self.changed_at() is None:
            return set()
        with self._read() as connection:
            self._refuse_others(connection)
            return load_log.noted(_asking(connection))

    def fields(self) -> dict[str, set[str]]:
        """The fields that each record's table has a column for."""
        return {} if self.changed_at() is None else fields_of(self.query)

    def catalogue(self) -> Catalogue:
        """The catalogue as it was last written here; an empty one before."""
        return Catalogue() if self.changed_at() is None else remembered(self.query)

    def unknown_types(self) -> set[tuple[str, str, str]]:
        """Types of values that are not documented, seen by loads: asset key, field, type."""
        return set() if self.changed_at() is None else load_log.unknown_types(self.query)

    def volumes(self) -> dict[str, Volume]:
        """What the latest loads of each record brought, by asset key."""
        with self._read() as connection:
            return load_log.volumes(connection)

    def publish(self, path: Path) -> int:
        """Put a compact copy of the database at `path`, for programs that keep it open; its bytes.

        Whoever has the old copy open goes on reading it; the next to open the path gets the new.
        """
        self.check()
        return self._engine.copy_to(path, finish=ensure_daily_view)

    def adopt(self, source: Path) -> dict[str, int]:
        """Take over a database file into this database, which holds no days yet.

        All of it or nothing: every row is compared at both ends before it counts.

        Returns:
            The rows of each table, by its name with its schema.

        Raises:
            ConfigError: The file is not one of this project's, of this zone and account.
            WarehouseError: There are days here already, or what was written differs.
        """
        with self._connect() as connection:
            if load_log.noted(_asking(connection)):
                raise WarehouseError(f"{self.name} holds days already; name an empty database.")
            with attached(connection, source) as tables:
                found = connection.execute(
                    f"SELECT timezone, account, host FROM {tables.name_of(WAREHOUSE)}"
                ).fetchone()
                zone, account, host = found or ("", "", "")
                if (
                    not is_same_zone(zone, self.timezone)
                    or account not in (None, self._account)
                    or (self._host and host not in (None, self._host))
                ):
                    raise ConfigError(
                        "duckdb_path",
                        f"{source} holds days of {zone}, {account or 'no named account'} and "
                        f"{host or 'no host'}, but the settings say {self.timezone}, "
                        f"{self._account or 'no account'} and {self._host or 'no host'}.",
                    )
                with transaction(connection):
                    taken = {name: tables.take(name) for name in tables.names}
                    tables.take_views()
            for table in (LOADS, WAREHOUSE):
                add_missing_columns(connection, table, self._engine.dialect)
            return taken

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Tidy up a lake: many small files become few; files and snapshots before, and now.

        Args:
            keep: How long a state of the lake that is no longer the latest can be read.
        """
        return self._engine.maintain(keep)

    def check(self) -> None:
        """Raise what would keep a load from writing: folder, file, lock, zone, account, host."""
        with self._connect() as connection:
            self._ensure_own(connection)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pd.DataFrame":
        """The result of a query, with instants in UTC."""
        with self.reading() as query:
            return query(sql, parameters)

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """A function that answers queries like `query`, for several in a row."""
        if self._engine.is_shared:
            yield self._ask
            return
        with self._connect() as connection:
            yield _asking(connection)

    def _ask(self, sql: str, parameters: Sequence[Any] = ()) -> "pd.DataFrame":
        """The result of a query of a shared database, asked for again where it went away."""
        try:
            with self._read() as connection:
                return _asking(connection)(sql, parameters)
        except WarehouseLost:
            with self._read() as connection:
                return _asking(connection)(sql, parameters)

    @contextmanager
    def _read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to read from; the project's own tables are there."""
        if not self._engine.is_shared:
            with self._connect() as connection:
                yield connection
            return
        if self._engine.identity != self._founded:
            with self._connect():
                pass
        with self._noticing(), self._engine.reading() as connection:
            yield connection

    @contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._noticing(), self._engine.connect() as connection:
            self._ensure_foundation(connection)
            yield connection

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Tell an error that says that the database went away from others."""
        try:
            yield
        except duckdb.Error as error:
            if not self._engine.is_lost(error):
                raise
            raise WarehouseLost(f"{self.name} went away: {error}") from None

    def _ensure_foundation(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the project's own tables in a new database; refuse one of another zone.

        Without parameters: for the first of them DuckDB imports pandas, which takes longer than all
        that is done here, and a load does this before its first request.
        """
        # Looked at once for each database that stands in the place.
        identity, dialect = self._engine.identity, self._engine.dialect
        if identity == self._founded:
            return
        exists = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE "
            f"schema_name = {literal(WAREHOUSE.schema)} AND table_name = {literal(WAREHOUSE.name)}"
        ).fetchone()
        if exists == (0,):
            with transaction(connection):
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    create_table(connection, table, table.columns)
                for table in (COLUMNS, LOADS, METRIC_VALUES, WAREHOUSE):
                    remember_columns(connection, table, table.columns)
                connection.execute(
                    f"INSERT INTO {name_of(WAREHOUSE)} (timezone, created_at) VALUES (?, ?)",
                    [self.timezone, datetime.now(UTC)],
                )
            settle(connection, dialect)
        add_missing_columns(connection, LOADS, dialect)
        add_missing_columns(connection, WAREHOUSE, dialect)
        ensure_daily_view(connection, dialect)
        known = connection.execute(f"SELECT timezone FROM {name_of(WAREHOUSE)}").fetchone()
        zone = known[0] if known else ""
        if not is_same_zone(zone, self.timezone):
            self._refuse_days_of(connection, "timezone", self.timezone, zone)
            connection.execute(f"UPDATE {name_of(WAREHOUSE)} SET timezone = ?", [self.timezone])
        self._founded = identity

    def _ensure_own(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Refuse to write into a database that holds days of another account or host."""
        account, host = self._refuse_others(connection)
        now = (self._account, self._host or host)
        if now != (account, host):
            connection.execute(f"UPDATE {name_of(WAREHOUSE)} SET account = ?, host = ?", now)

    def _refuse_others(
        self, connection: duckdb.DuckDBPyConnection
    ) -> tuple[str | None, str | None]:
        """Whose days the database holds, by account and host, unless they are another's."""
        known = connection.execute(f"SELECT account, host FROM {name_of(WAREHOUSE)}").fetchone()
        account, host = known or (None, None)
        if account not in (None, self._account):
            self._refuse_days_of(connection, "account", self._account, account)
        if self._host and host not in (None, self._host):
            self._refuse_days_of(connection, "base_url", self._host, host)
        return account, host

    def _refuse_days_of(
        self, connection: duckdb.DuckDBPyConnection, setting: str, own: str, other: str
    ) -> None:
        days = connection.execute(
            f"SELECT count(*) FROM {name_of(LOADS)} WHERE partition_date IS NOT NULL"
        ).fetchone()
        if days != (0,):
            raise ConfigError(
                setting,
                f"is {own or 'empty'}, but {self.name} holds days of {other or 'no named account'},"
                " and days of two cannot stand in one table. Set it back, or load into another "
                "file (DIXA_DUCKDB_PATH).",
            )

    @contextmanager
    def _naming(self, relation: Relation, scope: Sequence[str]) -> Iterator[None]:
        """Say which table and rows a DuckDB error during a write is about."""
        try:
            yield
        except duckdb.Error as error:
            where = f"{relation.stored_in.key} in {self.name}"
            what = ", ".join(scope) or "all rows"
            if self._engine.is_lost(error):
                raise WarehouseLost(
                    f"{where} could not be written ({what}); its rows are the old or the new ones, "
                    f"whole: {error}"
                ) from None
            raise WarehouseError(
                f"{where} could not be written and is as it was ({what}): {error}"
            ) from error


def _open(address: str, config: Mapping[str, Any], wait_seconds: float, lake_data: str) -> Engine:
    if not address.startswith(LAKE_SCHEME):
        return DuckDBFile(Path(address), connection_config=config, wait_seconds=wait_seconds)
    # Its driver is an extra.
    from dixa_assets.warehouse.lake import DuckLake

    return DuckLake(
        address.removeprefix(LAKE_SCHEME),
        data=lake_data,
        connection_config=config,
        wait_seconds=wait_seconds,
    )


def _asking(connection: duckdb.DuckDBPyConnection) -> Query:
    return lambda sql, parameters=(): connection.execute(sql, list(parameters)).df()


def _insert(
    connection: duckdb.DuckDBPyConnection, staged: Staged, columns: Sequence[Column], batch: Batch
) -> None:
    """Put the rows of a staged file into its table, those of the batch's days."""
    days = [day.day.isoformat() for day in batch.days]
    rows = sum(staged.days[day].rows for day in days) if days else staged.rows
    if not rows:
        return
    # Days that were fetched with them may be left out.
    only = days if rows < staged.rows else []
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
        f"INSERT INTO {name_of(staged.table)} ({names}) "
        f"SELECT {', '.join(select.values())}, now(), ? "
        f"FROM read_json({literal(str(staged.path))}, format = 'newline_delimited', "
        f"columns = {{{reading}}}, maximum_object_size = {4 * staged.longest_line + 65536})"
        + (f" WHERE partition_date IN ({marks(only)})" if only else ""),
        [batch.run_id, *only],
    )
    if inserted.fetchone() != (rows,):
        raise WarehouseError(
            f"{staged.table.key}: the staged file {staged.path} does not hold the "
            f"{rows} rows that were put into it; the partition is as it was."
        )
