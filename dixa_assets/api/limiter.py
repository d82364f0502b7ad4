"""The limiter that every process with the same token shares."""

import hashlib

from pyrate_limiter import Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket
from pyrate_limiter.clocks import WallClock

from dixa_assets.api.pace import Reservations, SharedTokenBucket, pace_folder


def shared_limiter(
    identity: str, *, requests_per_second: float, burst: int, url: str = ""
) -> Limiter:
    """A limiter whose tokens every process with the same identity takes from the same bucket.

    Args:
        identity: What the budget belongs to: host and token.
        requests_per_second: The rate at which tokens come back.
        burst: How many there are at most.
        url: The Postgres that keeps the bucket; empty for a file of this machine.
    """
    # Named by a digest, so that the token itself is in no file name and no table.
    digest = hashlib.sha256(f"dixa_assets {identity}".encode()).hexdigest()[:16]
    store: Reservations
    if url:
        from dixa_assets.api.pace_postgres import PostgresTokenBucket

        store = PostgresTokenBucket(url, digest)
    else:
        store = SharedTokenBucket(pace_folder() / f"{digest}.pace")
    bucket = StateBucket(
        [Rate(max(round(requests_per_second * 1000), 1), 1_000_000, burst=burst)],
        algorithm=TokenBucket(),
        store=store,
        # The only clock that all processes share, also after a restart.
        clock=WallClock(),
    )
    # A token bucket keeps no log, so there is nothing for the library's leak thread to do.
    return Limiter(SingleBucketFactory(bucket, schedule_leak=False), buffer_ms=0)
