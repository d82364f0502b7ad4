"""The warehouse: a partition is replaced as a whole, in one transaction.

A write keeps the database locked until it is committed. No table has a primary key, an index or a
default: replacing whole partitions needs none, and DuckDB recovers best from a crash without them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from dixa_assets.errors import WarehouseError, WarehouseLost
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.counts import Types
from dixa_assets.model.privacy import Treatment
from dixa_assets.model.tables import OWNER, PERIOD_VALUES, Relation, Table
from dixa_assets.warehouse import load_log, parquet, privacy
from dixa_assets.warehouse.catalogue import read_catalogue, write_catalogue
from dixa_assets.warehouse.failures import explain_failure, is_lost, to_own_error
from dixa_assets.warehouse.file import open_engine
from dixa_assets.warehouse.frames import Frames, Reader
from dixa_assets.warehouse.load_log import Inventory, Load
from dixa_assets.warehouse.move import copy_file
from dixa_assets.warehouse.objects import ensure_own_tables, is_complete, with_own_tables
from dixa_assets.warehouse.ownership import Ownership
from dixa_assets.warehouse.read_copy import write_read_copy
from dixa_assets.warehouse.revisions import append_revisions, read_totals
from dixa_assets.warehouse.rows import insert_rows
from dixa_assets.warehouse.schema import Plan, apply_plan, evolve, fields_of, plan_changes
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import (
    Connection,
    Query,
    name_of,
    placeholders,
    quote,
    rows_of,
    transaction,
)
from dixa_assets.warehouse.views import View, replace_rows, replace_views
from dixa_assets.warehouse.written import Written, read_preview

# One thread. Each row group is written when it is full: by default DuckDB keeps ten in memory.
LOW_MEMORY = "SET threads = 1; SET write_buffer_row_group_count = 1"
# Every write into a lake changes this row. If the lock ever fails, two writes conflict here, and
# the lake commits only one of them.
TOUCH_OWNER = f"UPDATE {name_of(OWNER)} SET created_at = created_at"
# A write that a lost connection or another writer of a lake has ended is repeated as often.
MOST_REPEATS = 4
T = TypeVar("T")


class Warehouse(Frames):
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
        self._engine = open_engine(str(path), settings, connection_config or {})
        self.name = self._engine.name
        self.staging = self._engine.staging
        self.changed_at = self._engine.changed_at
        self._owner = Ownership(self.name, settings, host)
        # True if a reader found a lake complete. A lake is opened for each query, a file is not.
        self._is_complete_lake = False
        self._holds_removed = False

    @property
    def is_lake(self) -> bool:
        """True if many machines can write the database."""
        return self._engine.is_shared

    def replace(self, relation: Relation, loads: Sequence[Load]) -> Written:
        """Replace the days of the loads, or the whole table, with the staged rows.

        Columns are added and widened first, in transactions of their own. One transaction then
        deletes the old rows, inserts the new ones, writes the load log and appends the totals
        that changed to the revisions. The weeks and months that end with a day are replaced with
        it. If a statement fails, no partition changes.

        Raises:
            WarehouseError: The rows cannot be written.
            WarehouseBusy: Another process held the database for too long.
            WarehouseLost: The server of a lake does not answer.
            ConfigError: The database holds days of another zone, account or host.
        """
        for load in loads:
            for part in load.parts:
                part.close()
        # The rows stay staged, and a second attempt replaces the same partitions.
        return self._repeat(lambda: self._replace(relation, loads))

    def _replace(self, relation: Relation, loads: Sequence[Load]) -> Written:
        parts = [(part, load.run_id) for load in loads for part in load.parts]
        types = sum((part.types for part, _ in parts), Types())
        days = [str(load.day) for load in loads if load.day]
        scope = {"partition_date": days} if days else {}
        scope |= {name: [value] for name, value in relation.row_filter.items()}
        where = " AND ".join(f"{quote(name)} IN ({placeholders(v)})" for name, v in scope.items())
        scope_sql = f"{name_of(relation.stored_in)} WHERE {where or 'true'}"
        periods = sorted({name for load in loads for name in load.periods})
        values = [*itertools.chain(*scope.values())]

        def write(connection: Connection, plan: Plan) -> Written:
            if self._engine.is_shared:
                connection.execute(TOUCH_OWNER)
            removed = privacy.remove_other_rows(connection, relation)
            self._holds_removed |= bool(removed or plan.removed)
            changes = [*plan.changes, *removed]
            before = read_totals(connection, relation, days)
            connection.execute(f"DELETE FROM {scope_sql}", values)
            if periods:
                connection.execute(
                    f"DELETE FROM {name_of(PERIOD_VALUES)} "
                    f"WHERE {where} AND period IN ({placeholders(periods)})",
                    [*values, *periods],
                )
            for part, run_id in parts:
                columns = part.table.columns if part.table is PERIOD_VALUES else plan.columns
                insert_rows(connection, part, columns, run_id)
            load_log.write_loads(connection, relation.key, loads, changes)
            append_revisions(connection, relation, before)
            is_record = bool(days) and not relation.row_filter
            preview = read_preview(connection, plan.columns, scope_sql, values) if is_record else []
            return Written(tuple(changes), tuple(plan.columns), preview)

        is_lake, table = self._engine.is_shared, relation.stored_in
        problem = (
            f"{table.key} in {self.name}: the rows of {', '.join(values) or 'the whole table'} "
            "could not be written"
        )
        with (
            self._connect() as connection,
            explain_failure(connection, table, problem, is_shared=is_lake),
        ):
            connection.execute(LOW_MEMORY)
            # One transaction is enough if no table needs a change. In a lake, each transaction
            # queries the Postgres again.
            with transaction(connection):
                self._owner.claim(connection)
                self._holds_removed = privacy.verify(connection, relation, [p for p, _ in parts])
                plan = plan_changes(connection, relation, types)
                if plan.removed:
                    # Columns that are left out now disappear together with the new rows.
                    evolve(connection, table, plan, is_lake)
                    privacy.note_removed(connection)
                if plan.removed or (plan.is_table_current and plan.is_view_current):
                    return write(connection, plan)
            apply_plan(connection, relation, plan, is_lake=is_lake)
            with transaction(connection):
                return write(connection, plan)

    def save_catalogue(self, catalogue: Catalogue) -> None:
        """Write the whole catalogue. `catalogue()` reads it back unchanged."""

        def save() -> None:
            with self._connect() as connection, transaction(connection):
                self._owner.claim(connection)
                write_catalogue(connection, catalogue)

        self._repeat(save)

    def catalogue(self) -> Catalogue:
        """Read the catalogue that was written last; an empty one if none was."""
        with self.reading() as query:
            return read_catalogue(query)

    def inventory(self) -> Inventory:
        """Read which database this is, and the loads that it holds.

        Raises:
            ConfigError: The database holds days of another zone, account or host.
        """
        with self._read() as connection:
            owner = self._owner.verify(connection)
            loads = load_log.loads_by_asset(partial(rows_of, connection))
            return Inventory(owner.get("database_id") or "", loads)

    def findings(self) -> tuple[set[tuple[str, str, str]], dict[str, set[str]]]:
        """The types and fields that loads found, which the catalogue may lack.

        Returns:
            Two values: the undocumented types (asset key, field, type), and the fields of each
            record's table.
        """
        with self.reading() as query:
            types, fields = load_log.unknown_types(query), fields_of(query)
        left_out = {each for each in types if each[2] == Treatment.NOT_ALLOWED}
        for key, name, _ in left_out:
            fields.setdefault(key.partition("/")[2], set()).add(name)
        return types - left_out, fields

    def forgotten(self) -> frozenset[str]:
        """The digests of forgotten values."""
        with self.reading() as query:
            return privacy.digests(query)

    @contextmanager
    def changing(self, *, dry_run: bool = False) -> Iterator[Connection]:
        """Open a connection for one transaction, or with `dry_run` for reading."""
        if dry_run:
            with self._read() as connection:
                yield connection
            return
        with self._connect() as connection, transaction(connection):
            self._owner.claim(connection)
            if self._engine.is_shared:
                connection.execute(TOUCH_OWNER)
            yield connection
            self._holds_removed = privacy.holds_removed(partial(rows_of, connection))

    def overwrite_removed(self) -> None:
        """Overwrite the blocks of a file, or remove the files of a lake, that hold removed values.

        Raises:
            WarehouseError: They cannot be overwritten now.
        """
        if self._holds_removed:
            self._engine.overwrite_removed(privacy.CLEAR)
            self._holds_removed = False

    def replace_views(self, schema: str, views: Sequence[View]) -> dict[str, str]:
        """Make the project's views in a schema. Return those that failed, with the reason."""
        with self._connect() as connection, transaction(connection):
            self._owner.claim(connection)
            return replace_views(connection, schema, views, is_lake=self._engine.is_shared)

    def replace_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Replace all rows of a table. Return False if other people made the table."""
        with self._connect() as connection:
            return replace_rows(connection, table, rows, is_lake=self._engine.is_shared)

    def publish(self, path: Path) -> dict[str, Any]:
        """Replace the file at `path` with a compact copy.

        Programs that have the old copy open continue to read it.

        Returns:
            The copy's size in bytes, and the tables whose rows could not be copied, if any.

        Raises:
            ConfigError: The file is not a read copy of this account's database.
        """
        self.check()
        return write_read_copy(self._engine, path, self._owner)

    def export(self, folder: str) -> dict[str, int]:
        """Copy days that were loaded since the last export into Parquet files.

        Args:
            folder: The folder of all tables: a path, or `s3://…`.

        Returns:
            The numbers of files written and of all files.
        """
        return parquet.export(self._read, folder)

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
            if load_log.loads_by_asset(partial(rows_of, connection)):
                raise WarehouseError(f"{self.name} holds days already; name an empty database.")
            copied = copy_file(connection, source, self._owner)
            ensure_own_tables(connection, is_lake=self._engine.is_shared)
            return copied

    def maintain(self, keep: timedelta) -> dict[str, int]:
        """Merge the small files of a lake. Return its numbers of files and snapshots.

        Both are counted before and after. Snapshots younger than `keep` stay readable.
        """

        def maintain() -> dict[str, int]:
            with self._detect_loss():
                return self._engine.maintain(keep)

        return self._repeat(maintain)

    def check(self) -> None:
        """Create the database if it is missing, and raise the error that a write would raise."""
        with self._connect() as connection:
            self._owner.claim(connection)

    def verify(self) -> None:
        """Raise the error that a write would raise, and write nothing."""
        self._engine.verify_place()
        self.inventory()

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """Return a function that runs queries and returns their rows.

        A file is locked for the whole block. Reading a lake takes no lock.
        """
        if self._engine.is_shared:
            yield partial(self.run, rows_of)
            return
        with self._read() as connection:
            yield partial(rows_of, connection)

    def run(self, read: Reader[T], sql: str, parameters: Sequence[Any] = ()) -> T:
        """Call `read` with a connection, again if a lake's server was lost."""

        def once() -> T:
            with self._read() as connection:
                return read(connection, sql, parameters)

        return self._repeat(once)

    def _repeat(self, run: Callable[[], T]) -> T:
        """Run again what a lost connection or another writer has ended, a few times at most."""
        for _ in range(MOST_REPEATS):
            with suppress(WarehouseLost):
                return run()
        return run()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """Open a connection for reading. If the database lacks own tables, they are empty."""
        is_lake = self._engine.is_shared
        with self._detect_loss(), self._open() as connection:
            if self._is_complete_lake:
                yield connection
            elif is_complete(connection):
                self._owner.verify_zone(connection)
                self._is_complete_lake = is_lake
                yield connection
            else:
                with with_own_tables(connection, is_lake=is_lake):
                    self._owner.verify_zone(connection)
                    yield connection

    def _open(self) -> AbstractContextManager[Connection]:
        """A connection for reading; to an empty database in memory if there is none yet."""
        if self._is_complete_lake or self.changed_at() is not None:
            return self._engine.reading()
        return duckdb.connect().execute("SET TimeZone = 'UTC'")

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """Open a connection for writing, to a database that has the project's own tables."""
        with self._detect_loss(), self._engine.connect() as connection:
            # Each time, because another database may have replaced the former one.
            ensure_own_tables(connection, is_lake=self._engine.is_shared)
            yield connection

    @contextmanager
    def _detect_loss(self) -> Iterator[None]:
        """Raise DuckDB's errors as errors of this project: WarehouseLost for a lost server."""
        try:
            yield
        except duckdb.Error as error:
            shared = self._engine.is_shared
            problem = "cannot be used now" if shared and is_lost(error) else "cannot be used"
            raise to_own_error(error, f"{self.name} {problem}", is_shared=shared) from None
