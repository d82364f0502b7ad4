"""The pace in a Postgres: machines that share a token keep its limit, whatever their clocks say."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.limiter import shared_limiter
from dixa_assets.errors import ApiUnavailable
from dixa_assets_tests.support.services import postgres_database, url_of
from dixa_assets_tests.support.simulator import KEY, Simulator

pytestmark = pytest.mark.services

RATE, BURST = 10, 4
PROCESSES, REQUESTS_EACH = 4, 25
# Asks from six threads, by a clock of its own; says with each request who it is.
LOAD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
url, key, pace, each, ahead, name = sys.argv[1:]
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + float(ahead)
time.time_ns = lambda: now_ns() + int(float(ahead) * 1e9)
from dixa_assets.api.client import DixaClient
with DixaClient(key, base_url=url, pace_url=pace) as client, ThreadPoolExecutor(6) as pool:
    for _ in pool.map(lambda _: client.fetch_filter_values(name), range(int(each))):
        pass
"""
# What each process asks for, so that its requests can be told from the others'.
NAMES = ("channel", "queue_id", "agent_id", "initial_direction")


@pytest.fixture
def database() -> Iterator[str]:
    """A database of this test's own."""
    with postgres_database() as parameters:
        yield url_of(parameters)


@pytest.mark.slow
def test_processes_share_the_limit_fairly_whatever_their_clocks_say(
    simulator: Simulator, database: str
) -> None:
    simulator.tell("settings", rate=RATE, burst=BURST)
    loads = []
    for number, name in enumerate(NAMES):
        clock = str(3 * number)
        arguments = [simulator.url, KEY, database, str(REQUESTS_EACH), clock, name]
        loads.append(subprocess.Popen([sys.executable, "-c", LOAD, *arguments]))
    assert [load.wait(90) for load in loads] == [0] * PROCESSES
    log = simulator.requests()
    assert Counter(one["status"] for one in log) == {200: PROCESSES * REQUESTS_EACH}
    at = [datetime.fromisoformat(one["at"]).timestamp() for one in log]
    assert (len(at) - 1) / (at[-1] - at[0]) >= 0.9 * RATE
    # While all of them ask, nobody gets less than half of its share.
    middle = Counter(one["path"] for one in log[20:60])
    assert len(middle) == PROCESSES
    assert min(middle.values()) >= 40 / PROCESSES / 2


def test_a_burst_may_go_at_once_and_no_more(database: str) -> None:
    limiters = [
        shared_limiter("host token", requests_per_second=0.5, burst=3, url=database)
        for _ in range(2)
    ]
    taken = [limiter.try_acquire(blocking=False) for limiter in limiters for _ in range(3)]
    for limiter in limiters:
        limiter.close()
    assert sum(map(bool, taken)) == 3


def test_a_token_stands_in_no_table(simulator: Simulator, database: str) -> None:
    with DixaClient(KEY, base_url=simulator.url, pace_url=database) as client:
        client.fetch_filter_values("channel")
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT * FROM dixa_pace").fetchall()
    assert len(rows) == 1
    assert KEY not in str(rows)


def test_a_lost_connection_is_opened_again(simulator: Simulator, database: str) -> None:
    with DixaClient(KEY, base_url=simulator.url, pace_url=database) as client:
        client.fetch_filter_values("channel")
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        client.fetch_filter_values("channel")
    assert [one["status"] for one in simulator.requests()] == [200, 200]


def test_a_database_that_cannot_be_asked_is_named_and_nothing_is_sent(simulator: Simulator) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:9/none"
    began = time.monotonic()
    with (
        DixaClient(KEY, base_url=simulator.url, pace_url=nowhere, max_attempts=1) as client,
        pytest.raises(ApiUnavailable, match="DIXA_PACE_URL"),
    ):
        client.fetch_filter_values("channel")
    assert time.monotonic() - began < 10
    assert simulator.requests() == []
