"""Copy staged rows from their file into their table."""

from collections.abc import Sequence

from dixa_assets.errors import WarehouseError
from dixa_assets.model.tables import Column
from dixa_assets.model.values import DOUBLE, TIMESTAMPTZ, VARCHAR
from dixa_assets.staging import Staged
from dixa_assets.warehouse.objects import LOADED_NAMES, sql_type
from dixa_assets.warehouse.sql import Connection, literal, name_of, quote


def insert_rows(
    connection: Connection, staged: Staged, columns: Sequence[Column], run_id: str
) -> None:
    """Insert the rows of a closed file into its table.

    Raises:
        WarehouseError: The file does not hold the rows that were staged.
    """
    if not staged.rows:
        return
    types, values = {}, {}
    for column in columns:
        if column.name in LOADED_NAMES:
            continue
        key = staged.keys.get((column.field, column.part)) if column.part else column.name
        if key is None:
            continue
        # Instants are read as text: DuckDB's cast knows every offset, its JSON reader does not.
        stored = sql_type(column.type)
        types[key] = stored.replace(TIMESTAMPTZ, VARCHAR)
        seen = staged.types.of.get((column.field, column.part)) or ""
        if seen.startswith(DOUBLE) and stored.startswith(VARCHAR):
            # DuckDB writes the number, as it did when the column became text.
            types[key] = seen
        values[column.name] = f"CAST({quote(key)} AS {stored})"
    reading = ", ".join(f"{literal(key)}: {literal(type_)}" for key, type_ in types.items())
    names = ", ".join(quote(name) for name in (*values, *LOADED_NAMES))
    inserted = connection.execute(
        f"INSERT INTO {name_of(staged.table)} ({names}) "
        f"SELECT {', '.join(values.values())}, now(), ? "
        f"FROM read_json({literal(str(staged.path))}, format = 'newline_delimited', "
        f"columns = {{{reading}}}, maximum_object_size = {4 * staged.longest_line + 65536})",
        [run_id],
    )
    if inserted.fetchone() != (staged.rows,):
        raise WarehouseError(
            f"{staged.table.key}: the staged file {staged.path} does not hold the "
            f"{staged.rows} rows that were written to it. The partition did not change."
        )
