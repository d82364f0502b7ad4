"""The project's own tables, and the zone, account and host of all days in a database."""

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import LOADS, OWN_TABLES, OWNER
from dixa_assets.warehouse.schema import ensure_tables, ensure_views
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import name_of
from dixa_assets.zones import is_same_zone


@dataclass(frozen=True, slots=True)
class Ownership:
    """The zone, account and host that a database must have.

    A database without days accepts any. Days of two zones, accounts or hosts never mix.

    Args:
        database: The database's name, for messages.
        settings: The zone and the account.
        host: The host of the API; empty if any host will do.
    """

    database: str
    settings: WarehouseSettings
    host: str

    def create_tables(self, connection: duckdb.DuckDBPyConnection, *, is_lake: bool) -> None:
        """Create the project's own tables if they are missing.

        For an existing database, no statement has parameters: the first one makes DuckDB import
        pandas, which takes longer than everything else here, and a load waits for it.

        Raises:
            ConfigError: The database holds days of another zone.
        """
        ensure_tables(connection, OWN_TABLES, is_lake=is_lake)
        ensure_views(connection, is_lake=is_lake)
        owner = connection.execute(f"SELECT timezone FROM {name_of(OWNER)}").fetchone()
        if owner is None:
            connection.execute(
                f"INSERT INTO {name_of(OWNER)} (timezone, created_at) VALUES (?, ?)",
                [self.settings.timezone, datetime.now(UTC)],
            )
        elif not is_same_zone(owner[0], self.settings.timezone):
            self._refuse_days(connection, "timezone", self.settings.timezone, owner[0])
            connection.execute(
                f"UPDATE {name_of(OWNER)} SET timezone = ?", [self.settings.timezone]
            )

    def verify(self, connection: duckdb.DuckDBPyConnection) -> tuple[str | None, str | None]:
        """The account and host of the database; None if it has none yet.

        Raises:
            ConfigError: The database holds days of another account or host.
        """
        owner = connection.execute(f"SELECT account, host FROM {name_of(OWNER)}").fetchone()
        account, host = owner or (None, None)
        if account not in (None, self.settings.account):
            self._refuse_days(connection, "account", self.settings.account, account)
        if self.host and host not in (None, self.host):
            self._refuse_days(connection, "base_url", self.host, host)
        return account, host

    def claim(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write account and host into the database.

        Raises:
            ConfigError: The database holds days of another account or host.
        """
        account, host = self.verify(connection)
        claimed = (self.settings.account, self.host or host)
        if claimed != (account, host):
            connection.execute(f"UPDATE {name_of(OWNER)} SET account = ?, host = ?", claimed)

    def verify_source(
        self, source: object, timezone: str, account: str | None, host: str | None
    ) -> None:
        """Refuse a database file that has another zone, account or host."""
        if (
            not is_same_zone(timezone, self.settings.timezone)
            or account not in (None, self.settings.account)
            or (self.host and host not in (None, self.host))
        ):
            raise ConfigError(
                "duckdb_path",
                f"{source} holds days of {timezone}, {account or 'no named account'} and "
                f"{host or 'no host'}, but the settings say {self.settings.timezone}, "
                f"{self.settings.account or 'no account'} and {self.host or 'no host'}.",
            )

    def _refuse_days(
        self, connection: duckdb.DuckDBPyConnection, setting: str, own: str, other: str
    ) -> None:
        days = connection.execute(
            f"SELECT count(*) FROM {name_of(LOADS)} WHERE partition_date IS NOT NULL"
        ).fetchone()
        if days != (0,):
            raise ConfigError(
                setting,
                f"is {own or 'empty'}, but {self.database} holds days of "
                f"{other or 'no named account'}, and one table cannot hold days of both. Set it "
                "back, or load into another file (DIXA_DUCKDB_PATH).",
            )
