"""The rate limiter that every process with the same token shares.

It joins pyrate-limiter's token bucket with a store: a file (`pace.py`) or a Postgres table
(`pace_postgres.py`).
"""

import hashlib

from pyrate_limiter import Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket
from pyrate_limiter.clocks import WallClock

from dixa_assets.api.pace import Reservations, SharedTokenBucket, pace_folder
from dixa_assets.api.settings import ApiSettings


def shared_limiter(identity: str, settings: ApiSettings) -> Limiter:
    """A limiter that takes its tokens from one bucket per identity.

    Args:
        identity: The owner of the limit: host and token.
        settings: The rate, the burst, and the Postgres that keeps the bucket, if any.
    """
    # The digest keeps the token out of file names and tables.
    digest = hashlib.sha256(f"dixa_assets {identity}".encode()).hexdigest()[:16]
    store: Reservations
    if settings.pace_url:
        # psycopg is an extra.
        from dixa_assets.api.pace_postgres import PostgresTokenBucket

        store = PostgresTokenBucket(settings.pace_url, digest)
    else:
        store = SharedTokenBucket(pace_folder() / f"{digest}.pace")
    per_thousand_seconds = max(round(settings.requests_per_second * 1000), 1)
    bucket = StateBucket(
        [Rate(per_thousand_seconds, 1_000_000, burst=settings.burst)],
        algorithm=TokenBucket(),
        store=store,
        # Processes share no other clock that survives a restart.
        clock=WallClock(),
    )
    # A token bucket keeps no log, so the library's leak thread has nothing to do.
    return Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=0)
