"""The zone, account and host of all days in a database, and the id of the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import LOADS, OWNER
from dixa_assets.warehouse.settings import WarehouseSettings
from dixa_assets.warehouse.sql import Connection, insert_values, name_of
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

    def verify(self, connection: Connection) -> dict[str, Any]:
        """The database's row about itself; empty before its first write.

        Raises:
            ConfigError: The database holds days of another zone, account or host.
        """
        found = connection.execute(
            f"SELECT timezone, account, host, database_id, copied_at FROM {name_of(OWNER)}"
        )
        names = [column[0] for column in found.description or ()]
        owner = dict(zip(names, found.fetchone() or (), strict=False))
        account, host = owner.get("account"), owner.get("host")
        self.verify_zone(connection)
        if account not in (None, self.settings.account):
            self._refuse_days(connection, "account", self.settings.account, account)
        if self.host and host not in (None, self.host):
            self._refuse_days(connection, "base_url", self.host, host)
        return owner

    def verify_zone(self, connection: Connection) -> None:
        """Raise ConfigError if the database holds days of another zone."""
        for (zone,) in connection.execute(f"SELECT timezone FROM {name_of(OWNER)}").fetchall():
            if not is_same_zone(zone, self.settings.timezone):
                self._refuse_days(connection, "timezone", self.settings.timezone, zone)

    def claim(self, connection: Connection) -> None:
        """Write zone, account, host and an id into the database.

        Raises:
            ConfigError: The database holds days of another zone, account or host.
        """
        owner = self.verify(connection)
        zone, host = owner.get("timezone"), owner.get("host")
        is_same = zone is not None and is_same_zone(zone, self.settings.timezone)
        claimed = {
            "timezone": zone if is_same else self.settings.timezone,
            "account": self.settings.account,
            "host": self.host or host,
            "database_id": owner.get("database_id") or str(uuid4()),
            "copied_at": None,
        }
        if not owner:
            insert_values(connection, OWNER, [claimed | {"created_at": datetime.now(UTC)}])
        elif claimed != owner:
            new = ", ".join(f"{name} = ?" for name in claimed)
            connection.execute(f"UPDATE {name_of(OWNER)} SET {new}", [*claimed.values()])

    def may_replace(self, owner: Mapping[str, Any]) -> bool:
        """True if a file with this row about itself is a read copy of the account's database.

        Files of earlier releases do not say whether they are copies.
        """
        return (
            owner.get("account") in (None, self.settings.account)
            and (not self.host or owner.get("host") in (None, self.host))
            and owner.get("copied_at", ...) is not None
        )

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

    def _refuse_days(self, connection: Connection, setting: str, own: str, other: str) -> None:
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
