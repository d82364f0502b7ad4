"""The read copy: a compact copy of the database in a file that is replaced as a whole."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from dixa_assets.files import make_folder, not_replaced, process_folder, replace_file, unwritable
from dixa_assets.model.tables import OWNER
from dixa_assets.warehouse.engine import STORAGE_VERSION, Engine
from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.objects import ensure_views
from dixa_assets.warehouse.ownership import Ownership
from dixa_assets.warehouse.sql import Connection, literal, name_of, quote, transaction

# The copy's name while it is written.
COPY = "dixa copy"


def write_read_copy(engine: Engine, path: Path, owner: Ownership) -> dict[str, Any]:
    """Replace the file at `path` with a copy of the database, and name what could not be written.

    See `_write`.
    """
    try:
        return _write(engine, path, owner)
    except OSError as error:
        raise unwritable("read_copy_path", path, error) from None
    except duckdb.Error as error:
        setting = "read_copy_path" if isinstance(error, duckdb.IOException) else ""
        problem = f"the read copy {path} could not be written"
        raise to_own_error(error, problem, setting=setting, is_shared=engine.is_shared) from None


def _write(engine: Engine, path: Path, owner: Ownership) -> dict[str, Any]:
    """Replace the file at `path` with a copy of the database.

    Returns:
        The copy's size in bytes, and the tables whose rows DuckDB could not copy, if there are any.

    Raises:
        ConfigError: The file is not a read copy of the account's database.
    """
    make_folder(path.parent, "read_copy_path")
    with process_folder(path.parent, f".{path.name}-", setting="read_copy_path") as folder:
        # The copy is made under its final file name, because DuckDB names a database after it.
        made = folder / path.name
        with engine.reading() as connection:
            left_out = copy_into(connection, made)
        with duckdb.connect(str(made)) as copy, transaction(copy):
            ensure_views(copy, setting="read_copy_path")
            copy.execute(f"UPDATE {name_of(OWNER)} SET copied_at = now()")
        if path.exists() and path.stat().st_size:
            _refuse_other_file(path, folder, owner)
        size = made.stat().st_size
        replace_file(made, path)
        # A program that wrote into the old copy may have left a log, which DuckDB would apply.
        Path(f"{path}.wal").unlink(missing_ok=True)
    return {"bytes": size} | ({"rows left out": ", ".join(left_out)} if left_out else {})


def copy_into(connection: Connection, made: Path) -> list[str]:
    """Copy the database into a new file. Return the tables whose rows cannot be copied."""
    connection.execute(
        f"ATTACH {literal(str(made))} AS {quote(COPY)} (STORAGE_VERSION {literal(STORAGE_VERSION)})"
    )
    try:
        return _copy_everything(connection)
    finally:
        connection.execute(f"DETACH {quote(COPY)}")


def _copy_everything(connection: Connection) -> list[str]:
    """Copy all objects and rows. Return the names of the tables whose rows cannot be copied."""
    ((own,),) = connection.execute("SELECT current_database()").fetchall()
    everything = f"COPY FROM DATABASE {quote(own)} TO {quote(COPY)}"
    try:
        connection.execute(everything)
    except duckdb.ConstraintException:
        # DuckDB copies some tables before the tables that their foreign keys name.
        connection.execute(f"{everything} (SCHEMA)")
    else:
        return []
    pending = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND NOT temporary"
    ).fetchall()
    while True:
        failed = []
        for schema, table in pending:
            name = f"{quote(schema)}.{quote(table)}"
            try:
                connection.execute(f"INSERT INTO {quote(COPY)}.{name} FROM {quote(own)}.{name}")
            except (duckdb.ConstraintException, duckdb.BinderException):
                failed.append((schema, table))
        if not failed or failed == pending:
            return [".".join(table) for table in failed]
        pending = failed


def _refuse_other_file(path: Path, folder: Path, owner: Ownership) -> None:
    try:
        found = _owner_of(path, folder)
    except duckdb.Error as error:
        reason = f" ({str(error).partition(chr(10))[0]})"
        raise not_replaced("read_copy_path", path, reason) from None
    if not owner.may_replace(found):
        raise not_replaced("read_copy_path", path, ": it is a database, or another account's copy")


def _owner_of(path: Path, folder: Path) -> Mapping[str, Any]:
    """The row of a database about itself; empty if it has none."""
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.IOException as error:
        if "Could not set lock" not in str(error):
            raise
        # A program has the old copy open for writing. DuckDB does not lock a copy of the file.
        moment = shutil.copyfile(path, folder / "moment")
        connection = duckdb.connect(str(moment), read_only=True)
    with connection:
        found = connection.execute(f"FROM {name_of(OWNER)}")
        names = [column[0] for column in found.description or ()]
        return dict(zip(names, found.fetchone() or (), strict=False))
