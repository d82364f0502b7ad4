"""DuckDB's extensions: from their wheels, or from DuckDB's server."""

from importlib.resources import files

import duckdb

from dixa_assets.warehouse.failures import to_own_error
from dixa_assets.warehouse.sql import Connection, literal


def load_extension(connection: Connection, extension: str, user: str) -> None:
    """Load an extension from its wheel if that is installed, otherwise from DuckDB's server.

    `user` needs it; the error names it.
    """
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
        raise to_own_error(
            error,
            f"{user} needs DuckDB's extension '{extension}' (install the extra dixa-assets[lake]), "
            "which cannot be loaded",
            setting="duckdb_path",
        ) from None
