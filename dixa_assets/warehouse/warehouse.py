"""The warehouse: a partition is replaced as a whole, in one transaction.

A write holds the database for as long as it takes. No table has a primary key, an index or a
default: replacing whole partitions needs none, and DuckDB recovers best from a crash without them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from dixa_assets.errors import WarehouseError, WarehouseLost
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.counts import Types
from dixa_assets.model.tables import LAKE_SCHEME, OWN_TABLES, OWNER, Column, Relation, Table
from dixa_assets.model.values import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMPTZ
from dixa_assets.warehouse import load_log
from dixa_assets.warehouse.catalogue import read_catalogue, write_catalogue
from dixa_assets.warehouse.engine import Engine
from dixa_assets.warehouse.failures import is_lost, to_own_error
from dixa_assets.warehouse.file import DuckDBFile
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.move import copy_file
from dixa_assets.warehouse.ownership import Ownership
from dixa_assets.warehouse.revisions import append_revisions, read_totals
from dixa_assets.warehouse.rows import insert_rows
from dixa_assets.warehouse.schema import (
    Plan,
    apply_plan,
    ensure_tables,
    fields_of,
    plan_changes,
)
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import (
    Query,
    name_of,
    names_of,
    placeholders,
    quote,
    rows_of,
    transaction,
)
from dixa_assets.warehouse.views import View, replace_rows, replace_views

if TYPE_CHECKING:
    import pandas as pd

# A preview shows columns of these types only, because their values do not identify a person.
PREVIEW_TYPES = frozenset({BOOLEAN, BIGINT, DOUBLE, DATE, TIMESTAMPTZ})
PREVIEW_ROWS = 5
# One thread. Each row group is written when it is full: by default DuckDB keeps ten in memory.
LOW_MEMORY = "SET threads = 1; SET write_buffer_row_group_count = 1"
# Every write into a lake changes this row. If the lock ever fails, two writes conflict here, and
# the lake commits only one of them.
TOUCH_OWNER = f"UPDATE {name_of(OWNER)} SET created_at = created_at"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write.

    Attributes:
        schema_changes: The changes of the table, in words.
        columns: The columns of the table.
        preview: A few of its rows: numbers, instants and booleans, never text, which may be
            personal.
    """

    schema_changes: tuple[str, ...]
    columns: tuple[Column, ...]
    preview: "pd.DataFrame"


class Warehouse:
    """The database of an account.

    Args:
        path: The database file, whose folder is made if it is missing; or the address of a lake,
            `ducklake:postgres:dbname=… host=…`.
        settings: The account and the zone of all days, and how to open the database.
        host: The host of the API that returns the days; empty if any host will do.
        connection_config: DuckDB settings, as DuckDBResource takes them.
    """

    def __init__(
        self,
        path: str | Path,
        settings: WarehouseSettings = WarehouseSettings(),  # noqa: B008
        *,
        host: str = "",
        connection_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self.timezone = settings.timezone
        self._engine = _engine(str(path), settings, connection_config or {})
        self.name = self._engine.name
        self.staging = self._engine.staging
        self.changed_at = self._engine.changed_at
        self._owner = Ownership(self.name, settings, host)
        # The identity of the database in which the project's own tables were created.
        self._prepared = ""

    @property
    def identity(self) -> str:
        """A string that changes if another database replaces this one."""
        return self._engine.identity

    def replace(self, relation: Relation, loads: Sequence[Load]) -> Written:
        """Replace the days of the loads, or the whole table, with the staged rows.

        Columns are added and widened first, in transactions of their own. One transaction then
        deletes the old rows, inserts the new ones, writes the load log and appends the totals
        that changed to the revisions. If a statement fails, no partition changes.

        Raises:
            WarehouseError: The rows cannot be written.
            WarehouseBusy: Another process held the database for too long.
            WarehouseLost: The server of a lake does not answer.
            ConfigError: The database holds days of another zone, account or host.
        """
        for load in loads:
            for part in load.parts:
                part.close()
        try:
            return self._replace(relation, loads)
        except WarehouseLost:
            # The rows are still staged, and a second attempt replaces the same partitions.
            return self._replace(relation, loads)

    def _replace(self, relation: Relation, loads: Sequence[Load]) -> Written:
        parts = [(part, load.run_id) for load in loads for part in load.parts]
        types = sum((part.types for part, _ in parts), Types())
        days = [str(load.day) for load in loads if load.day]
        scope = {"partition_date": days} if days else {}
        scope |= {name: [value] for name, value in relation.row_filter.items()}
        where = " AND ".join(f"{quote(name)} IN ({placeholders(v)})" for name, v in scope.items())
        scope_sql = f"{name_of(relation.stored_in)} WHERE {where or 'true'}"
        values = [*itertools.chain(*scope.values())]

        def write(connection: duckdb.DuckDBPyConnection, plan: Plan) -> Written:
            if self._engine.is_shared:
                connection.execute(TOUCH_OWNER)
            before = read_totals(connection, relation, days)
            connection.execute(f"DELETE FROM {scope_sql}", values)
            for part, run_id in parts:
                insert_rows(connection, part, plan.columns, run_id)
            load_log.write_loads(connection, relation.key, loads, plan.changes)
            append_revisions(connection, relation, before)
            plain = [column for column in plan.columns if column.type in PREVIEW_TYPES]
            preview = connection.execute(
                f"SELECT {names_of(plain) or 'NULL'} FROM {scope_sql} "
                f"ORDER BY rowid DESC LIMIT {PREVIEW_ROWS}",
                values,
            ).df()
            return Written(tuple(plan.changes), tuple(plan.columns), preview)

        with self._connect() as connection, self._explain_failure(relation, values):
            connection.execute(LOW_MEMORY)
            # One transaction is enough if no table needs a change. In a lake, each transaction
            # queries the Postgres again.
            with transaction(connection):
                self._owner.claim(connection)
                plan = plan_changes(connection, relation, types)
                if plan.is_table_current and plan.is_view_current:
                    return write(connection, plan)
            apply_plan(connection, relation, plan, is_lake=self._engine.is_shared)
            with transaction(connection):
                return write(connection, plan)

    def save_catalogue(self, catalogue: Catalogue) -> None:
        """Write the whole catalogue. `catalogue` returns an equal one."""
        with self._connect() as connection, transaction(connection):
            self._owner.claim(connection)
            write_catalogue(connection, catalogue)

    def catalogue(self) -> Catalogue:
        """Read the catalogue that was written last; an empty one if none was."""
        if self.changed_at() is None:
            return Catalogue()
        with self.reading() as query:
            return read_catalogue(query)

    def loaded(self) -> set[tuple[str, str]]:
        """The loaded partitions: asset key and day, which is empty for a whole table.

        Raises:
            ConfigError: The database holds days of another zone, account or host.
        """
        if self.changed_at() is None:
            return set()
        with self._read() as connection:
            self._owner.verify(connection)
            return load_log.loaded_partitions(partial(rows_of, connection))

    def findings(self) -> tuple[set[tuple[str, str, str]], dict[str, set[str]]]:
        """The types and fields that loads found, which the catalogue may lack.

        Returns:
            Undocumented types: asset key, field, type. The fields of each record's table.
        """
        if self.changed_at() is None:
            return set(), {}
        with self.reading() as query:
            return load_log.unknown_types(query), fields_of(query)

    def replace_views(self, schema: str, views: Sequence[View]) -> dict[str, str]:
        """Make the project's views in a schema, each after the views that it reads.

        Views that are no longer wanted are dropped. Relations of other people stay as they are.

        Returns:
            The views that could not be made, by name, with the reason.
        """
        with self._connect() as connection, transaction(connection):
            self._owner.claim(connection)
            return replace_views(connection, schema, views, is_lake=self._engine.is_shared)

    def replace_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Replace all rows of a table. Return False if other people made the table."""
        with self._connect() as connection:
            return replace_rows(connection, table, rows, is_lake=self._engine.is_shared)

    def publish(self, path: Path) -> int:
        """Replace the file at `path` with a compact copy. Return the size of the copy in bytes.

        Programs that have the old copy open continue to read it.
        """
        self.check()
        return self._engine.copy_to(path)

    def copy_from(self, source: Path) -> dict[str, int]:
        """Copy a database file into this database, which holds no days yet.

        Everything is copied, or nothing. Every row is compared before the copy is committed.

        Returns:
            The number of rows of each table, by its quoted name with its schema.

        Raises:
            ConfigError: The file is not a database of this project, or has another zone or account.
            WarehouseError: This database holds days already, or the copy differs from the file.
        """
        with self._connect() as connection:
            if load_log.loaded_partitions(partial(rows_of, connection)):
                raise WarehouseError(f"{self.name} holds days already; name an empty database.")
            copied = copy_file(connection, source, self._owner)
            ensure_tables(connection, OWN_TABLES, is_lake=self._engine.is_shared)
            return copied

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Merge the small files of a lake. Return its counts before and after.

        An earlier state of the lake can be read for as long as `keep`.
        """
        return self._engine.maintain(keep)

    def check(self) -> None:
        """Raise the error that a write would raise: folder, file, lock, zone, account or host."""
        with self._connect() as connection:
            self._owner.claim(connection)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pd.DataFrame":
        """Run a query and return a frame, with instants in UTC."""
        frame: pd.DataFrame = self._run(
            lambda each, *sent: each.execute(*sent).df(), sql, parameters
        )
        return frame

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """Return a function that runs queries and returns their rows.

        A file is locked for the whole block. A lake is never locked.
        """
        if self._engine.is_shared:
            yield partial(self._run, rows_of)
            return
        with self._read() as connection:
            yield partial(rows_of, connection)

    def _run(
        self,
        run: Callable[[duckdb.DuckDBPyConnection, str, Sequence[Any]], T],
        sql: str,
        parameters: Sequence[Any] = (),
    ) -> T:
        """Run a query. If the server of a lake was lost, run it once more."""
        try:
            with self._read() as connection:
                return run(connection, sql, parameters)
        except WarehouseLost:
            with self._read() as connection:
                return run(connection, sql, parameters)

    @contextmanager
    def _read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection for reading, to a database that has the project's own tables."""
        if self._engine.identity != self._prepared:
            with self._connect():
                pass
        with self._detect_loss(), self._engine.reading() as connection:
            yield connection

    @contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection for writing, to a database that has the project's own tables."""
        with self._detect_loss(), self._engine.connect() as connection:
            # Once for each database at this address.
            if (identity := self._engine.identity) != self._prepared:
                self._owner.create_tables(connection, is_lake=self._engine.is_shared)
                self._prepared = identity
            yield connection

    @contextmanager
    def _detect_loss(self) -> Iterator[None]:
        """Raise WarehouseLost for DuckDB's errors of a lost server, and other errors unchanged."""
        try:
            yield
        except duckdb.Error as error:
            if not (self._engine.is_shared and is_lost(error)):
                raise
            problem = f"{self.name} does not answer"
            raise to_own_error(error, problem, is_shared=True) from None

    @contextmanager
    def _explain_failure(self, relation: Relation, scope: Sequence[str]) -> Iterator[None]:
        """Name the table and the rows of a failed write."""
        try:
            yield
        except duckdb.Error as error:
            shared = self._engine.is_shared
            state = (
                "its rows are all old or all new" if shared and is_lost(error) else "is as it was"
            )
            raise to_own_error(
                error,
                f"{relation.stored_in.key} in {self.name} could not be written; {state} "
                f"({', '.join(scope) or 'all rows'})",
                is_shared=shared,
            ) from error


def _engine(address: str, settings: WarehouseSettings, config: Mapping[str, Any]) -> Engine:
    if not address.startswith(LAKE_SCHEME):
        return DuckDBFile(Path(address), settings, config)
    # Its driver is an extra.
    from dixa_assets.warehouse.lake import DuckLake

    return DuckLake(address.removeprefix(LAKE_SCHEME), settings, config)
