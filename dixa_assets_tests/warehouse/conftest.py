"""An empty database, for tests to begin with a copy of it."""

from pathlib import Path

import pytest

from dixa_assets.warehouse.warehouse import Warehouse


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the project's own tables and no others."""
    path = tmp_path_factory.mktemp("empty") / "empty.duckdb"
    Warehouse(path).check()
    return path
