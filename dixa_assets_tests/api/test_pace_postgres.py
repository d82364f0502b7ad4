"""The rate limit that several machines share, with its state in a Postgres."""

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
from dixa_assets.api.settings import ApiSettings, Patience
from dixa_assets.errors import ApiUnavailable
from dixa_assets_tests.support.services import postgres_database, url_of
from dixa_assets_tests.support.simulator import KEY, Simulator

pytestmark = pytest.mark.services

RATE, BURST = 10, 4
PROCESSES, REQUESTS_EACH = 4, 25
# Sends requests from six threads, with a clock that is `ahead` seconds fast.
LOAD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
url, key, pace, each, ahead, name = sys.argv[1:]
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + float(ahead)
time.time_ns = lambda: now_ns() + int(float(ahead) * 1e9)
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings
settings = ApiSettings(base_url=url, pace_url=pace)
with DixaClient(key, settings) as client, ThreadPoolExecutor(6) as pool:
    for _ in pool.map(lambda _: client.fetch_filter_values(name), range(int(each))):
        pass
"""
# Each process requests another attribute, so the log shows which process sent a request.
NAMES = ("channel", "queue_id", "agent_id", "initial_direction")


@pytest.fixture
def database() -> Iterator[str]:
    """A database for one test."""
    with postgres_database() as parameters:
        yield url_of(parameters)


@pytest.mark.slow
def test_processes_with_different_clocks_share_the_limit_fairly(
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
    # While all processes send requests, each gets at least half of its share.
    middle = Counter(one["path"] for one in log[20:60])
    assert len(middle) == PROCESSES
    assert min(middle.values()) >= 40 / PROCESSES / 2


def test_no_more_than_the_burst_is_sent_at_once(database: str) -> None:
    settings = ApiSettings(requests_per_second=0.5, burst=3, pace_url=database)
    limiters = [shared_limiter("host token", settings) for _ in range(2)]
    taken = [limiter.try_acquire(blocking=False) for limiter in limiters for _ in range(3)]
    for limiter in limiters:
        limiter.close()
    assert sum(map(bool, taken)) == 3


def test_the_key_is_in_no_table(simulator: Simulator, database: str) -> None:
    with DixaClient(KEY, ApiSettings(base_url=simulator.url, pace_url=database)) as client:
        client.fetch_filter_values("channel")
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT * FROM dixa_pace").fetchall()
    assert len(rows) == 1
    assert KEY not in str(rows)


def test_a_lost_connection_is_opened_again(simulator: Simulator, database: str) -> None:
    with DixaClient(KEY, ApiSettings(base_url=simulator.url, pace_url=database)) as client:
        client.fetch_filter_values("channel")
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        client.fetch_filter_values("channel")
    assert [one["status"] for one in simulator.requests()] == [200, 200]


def test_without_the_database_nothing_is_sent_and_the_error_names_it(simulator: Simulator) -> None:
    settings = ApiSettings(base_url=simulator.url, pace_url="postgresql://nobody@127.0.0.1:9/none")
    began = time.monotonic()
    with (
        DixaClient(KEY, settings, Patience(attempts=1)) as client,
        pytest.raises(ApiUnavailable, match="DIXA_PACE_URL"),
    ):
        client.fetch_filter_values("channel")
    assert time.monotonic() - began < 10
    assert simulator.requests() == []
