"""Copies of the tables as Parquet files: a folder for each table, a file for each day.

A file is replaced as a whole, so a reader never sees half a day, or a day twice. Only days that
were loaded since the last copy are written. The file `_exported.parquet` lists the version of each
file; most programs ignore files that begin with an underscore.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from dixa_assets.errors import WarehouseError
from dixa_assets.files import make_folder, open_private, replace_file
from dixa_assets.model.tables import METRIC_VALUES, OWNER, PERIOD_VALUES, Table
from dixa_assets.warehouse.extensions import load_extension
from dixa_assets.warehouse.sql import Connection, literal, name_of, rows_of

LISTING = "_exported.parquet"
# Files that are written while the database is locked.
FILES_PER_LOCK = 50
# The load log names metrics by their views. Their rows are in one table, so they share a file.
# A file is written anew if the columns of its table change, or if values were removed or blanked.
FILES = f"""
    SELECT table_schema, table_name, coalesce(day::VARCHAR, '') AS day,
        concat_ws(' ', max(loaded_at), count(*), any_value(columns), any_value(removals)) AS version
    FROM (
        SELECT partition_date AS day, loaded_at,
            IF(asset_key LIKE 'dixa_metrics/%', '{METRIC_VALUES.key}', asset_key) AS key
        FROM dixa_catalogue.loads WHERE removed_at IS NULL
        UNION ALL
        SELECT partition_date, loaded_at, '{PERIOD_VALUES.key}' FROM dixa_catalogue.loads
        WHERE coalesce(periods::VARCHAR, '[]') <> '[]'
    )
    JOIN (
        SELECT schema_name AS table_schema, table_name,
            md5(string_agg(concat(column_name, data_type), ', ' ORDER BY column_index)) AS columns
        FROM duckdb_columns() WHERE database_name = current_database() GROUP BY ALL
    ) ON key = concat(table_schema, '/', table_name)
    CROSS JOIN (SELECT concat_ws(' ', erasures, removals) AS removals FROM {name_of(OWNER)})
    GROUP BY ALL ORDER BY ALL
"""


class Exported(NamedTuple):
    """A file: its table, its day (empty for a whole table), and the version of its rows."""

    table_schema: str
    table_name: str
    day: str
    version: str

    def path(self, folder: str) -> str:
        """The path of the file in the folder of all tables."""
        return f"{folder}/{self.table_schema}/{self.table_name}/{self.day or 'all'}.parquet"


def export(open_database: Callable[[], AbstractContextManager[Any]], folder: str) -> dict[str, int]:
    """Replace the files of days that were loaded since the last export.

    Args:
        open_database: Opens a connection for reading.
        folder: The folder of all tables: a path, or `s3://…`.

    Returns:
        The numbers of files written and of all files.
    """

    @contextmanager
    def opened() -> Iterator[Connection]:
        try:
            with open_database() as connection:
                if "://" in folder:
                    load_extension(connection, "httpfs", "an export to a bucket")
                yield connection
        except (duckdb.IOException, duckdb.HTTPException, OSError) as error:
            raise WarehouseError(f"{folder} could not be written: {error}") from None

    with opened() as connection:
        wanted, changed, gone = outdated(connection, folder)
    for start in range(0, len(changed), FILES_PER_LOCK):
        # Loads may write between two blocks.
        with opened() as connection:
            for file in changed[start : start + FILES_PER_LOCK]:
                write_file(connection, file, folder)
    with opened() as connection:
        for file in gone:
            empty_file(connection, file, folder)
        write_listing(connection, wanted, folder)
    return {"files_written": len(changed), "files": len(wanted)}


def outdated(
    connection: Connection, folder: str
) -> tuple[list[Exported], list[Exported], list[Exported]]:
    """All files that the folder should have, and among them the ones to write and to empty."""
    wanted = [Exported(*row) for row in rows_of(connection, FILES)]
    present: list[Exported] = []
    with suppress(duckdb.IOException, duckdb.HTTPException):
        listing = literal(f"{folder}/{LISTING}")
        present = [Exported(*row) for row in rows_of(connection, f"FROM read_parquet({listing})")]
    known = {*present}
    paths = {file.path(folder) for file in wanted}
    gone = [file for file in present if file.path(folder) not in paths]
    return wanted, [file for file in wanted if file not in known], gone


def empty_file(connection: Connection, file: Exported, folder: str) -> None:
    """Remove all rows of a file whose day is not in the database any more."""
    path = file.path(folder)
    with suppress(duckdb.IOException, duckdb.HTTPException):
        _copy(connection, f"FROM read_parquet({literal(path)}) WHERE false", path)


def write_file(connection: Connection, file: Exported, folder: str) -> None:
    """Replace a file by the current rows of its day or table."""
    table = name_of(Table(file.table_schema, file.table_name, "", ()))
    day = f"partition_date = DATE {literal(file.day)}" if file.day else "true"
    _copy(connection, f"SELECT * FROM {table} WHERE {day}", file.path(folder))


def write_listing(connection: Connection, files: list[Exported], folder: str) -> None:
    """Replace the list of files."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE exported "
        f"({', '.join(f'{name} VARCHAR' for name in Exported._fields)})"
    )
    connection.executemany("INSERT INTO exported VALUES (?, ?, ?, ?)", files)
    _copy(connection, "FROM exported", f"{folder}/{LISTING}")


def _copy(connection: Connection, select: str, path: str) -> None:
    if "://" in path:
        # A bucket shows an object when it is complete.
        connection.execute(f"COPY ({select}) TO {literal(path)} (FORMAT parquet)")
        return
    target = Path(path)
    make_folder(target.parent, "parquet_path")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        open_private(unfinished).close()
        # By default DuckDB would not write into an existing file, but replace it.
        options = "FORMAT parquet, USE_TMP_FILE false"
        connection.execute(f"COPY ({select}) TO {literal(str(unfinished))} ({options})")
        replace_file(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
