"""The rate limit's state in a Postgres, shared by every machine that can reach it.

One statement takes the next token by the database's clock, so the machines' clocks do not matter.
The bucket is one number: the time at which all tokens given so far are used up at the vendor's
rate.
"""

from contextlib import suppress

import psycopg
from pyrate_limiter import Rate
from pyrate_limiter.abstracts.algorithm import State, StateAlgorithm

from dixa_assets.api.pace import Reservations
from dixa_assets.errors import PaceUnavailable

SECONDS_TO_CONNECT = 5
TABLE = "CREATE TABLE IF NOT EXISTS dixa_pace (bucket text PRIMARY KEY, used_up_us bigint NOT NULL)"
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
TAKE = f"""
    INSERT INTO dixa_pace AS pace VALUES (%(bucket)s, {NOW} + %(cost)s)
    ON CONFLICT (bucket) DO UPDATE
    SET used_up_us = greatest(pace.used_up_us, {NOW}) + %(cost)s
    RETURNING pace.used_up_us - %(allowance)s - {NOW}
"""


class PostgresTokenBucket(Reservations):
    """A row of a table. The connection stays open.

    Args:
        url: The database, `postgresql://…`.
        bucket: The name of the row.
    """

    def __init__(self, url: str, bucket: str) -> None:
        self._url, self._bucket = url, bucket
        self._connection: psycopg.Connection[tuple[int]] | None = None
        self._is_closed = False

    def reserve(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> int:
        """Take `weight` tokens now, or reserve the next; milliseconds until they are due.

        Raises:
            PaceUnavailable: The database does not answer. A token that it gave is not used.
        """
        (rate,) = rates
        cost = round(1000 * rate.interval / rate.limit)
        values = {
            "bucket": self._bucket,
            "cost": weight * cost,
            "allowance": rate.burst * cost,
        }
        if self._is_closed:
            raise PaceUnavailable("the load is stopping")
        try:
            found = self._connected().execute(TAKE, values).fetchone()
        except psycopg.Error as error:
            self._drop()
            raise PaceUnavailable(" ".join(str(error).split())) from None
        return max(-(-found[0] // 1000), 0) if found else 0

    def read(self, algorithm: StateAlgorithm, rates: list[Rate]) -> State:
        """Return the initial state: the database keeps the real one."""
        return algorithm.initial(rates)

    def reset(self) -> None:
        """Forget all tokens taken."""
        self._connected().execute("DELETE FROM dixa_pace WHERE bucket = %s", [self._bucket])

    def close(self) -> None:
        """Close the connection and open no other."""
        self._is_closed = True
        self._drop()

    def _drop(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def _connected(self) -> "psycopg.Connection[tuple[int]]":
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=SECONDS_TO_CONNECT
            )
            # Another process may create the table at the same moment.
            with suppress(psycopg.errors.UniqueViolation):
                self._connection.execute(TABLE)
        return self._connection
