"""The rate limit that all processes with a token share, with its state in a file."""

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from pyrate_limiter import Limiter

from dixa_assets.api import pace
from dixa_assets.api.client import DixaClient
from dixa_assets.api.limiter import shared_limiter
from dixa_assets.api.settings import ApiSettings, Patience
from dixa_assets.errors import ApiUnavailable, ConfigError
from dixa_assets_tests.support.client import quick
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.simulator import KEY, Simulator

RATE, BURST = 10, 4
PROCESSES, THREADS, REQUESTS_EACH = 3, 2, 10
# Sends requests from several threads, with the default settings of a client.
LOAD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings

url, key, threads, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with (
    DixaClient(key, ApiSettings(base_url=url)) as client,
    ThreadPoolExecutor(threads) as pool,
):
    for _ in pool.map(lambda _: client.fetch_filter_values("channel"), range(threads * each)):
        pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which limiters of this test keep their state."""
    monkeypatch.setattr(pace, "STATE_FOLDERS", (str(tmp_path),))
    return tmp_path


def limiter(identity: str = "host token", rate: float = 0.5, burst: int = 3) -> Limiter:
    return shared_limiter(identity, ApiSettings(requests_per_second=rate, burst=burst))


def taken(limiter: Limiter, tries: int = 10) -> int:
    """The number of tokens that can be taken now."""
    return sum(bool(limiter.try_acquire(blocking=False)) for _ in range(tries))


def start_load(
    simulator: Simulator, threads: int, requests_each: int, **variables: str
) -> subprocess.Popen[bytes]:
    """A process that sends `requests_each` requests in each of its threads."""
    arguments = [simulator.url, KEY, str(threads), str(requests_each)]
    return subprocess.Popen([sys.executable, "-c", LOAD, *arguments], env=os.environ | variables)


def state_file(folder: Path) -> Path:
    (found,) = folder.glob("*/*.pace")
    return found


@pytest.mark.slow
def test_processes_with_one_token_use_the_whole_limit_and_never_exceed_it(
    simulator: Simulator,
) -> None:
    simulator.tell("settings", rate=RATE, burst=BURST)
    loads = [start_load(simulator, THREADS, REQUESTS_EACH) for _ in range(PROCESSES)]
    assert [load.wait(60) for load in loads] == [0] * PROCESSES

    log = simulator.requests()
    assert {one["status"] for one in log} == {200}
    at = [datetime.fromisoformat(one["at"]).timestamp() for one in log]
    assert len(at) == PROCESSES * THREADS * REQUESTS_EACH
    for first, start in enumerate(at):
        for last, end in enumerate(at[first:], first):
            # The client's burst is half of the server's. The rest allows 190 ms of delay.
            assert last - first + 1 <= BURST / 2 + RATE * (end - start) + 1.9
    # By the limit alone it takes 5.7 s. The starts and two busy cores may take a quarter more.
    assert (len(at) - 1) / (at[-1] - at[0]) >= 0.8 * RATE


def test_threads_of_a_client_take_turns(simulator: Simulator) -> None:
    threads, rounds = 6, 8
    took: list[int] = []
    with (
        DixaClient(KEY, quick(base_url=simulator.url, requests_per_second=50, burst=1)) as client,
        ThreadPoolExecutor(threads) as pool,
    ):

        def request(thread: int) -> None:
            while len(took) < threads * rounds:
                client.fetch_filter_values("channel")
                took.append(thread)

        list(pool.map(request, range(threads)))
    assert min(Counter(took).values()) >= rounds // 2


def test_a_process_with_few_requests_waits_one_turn_for_each(
    simulator: Simulator,
) -> None:
    # A long load, and a catalogue refresh at the same time.
    simulator.tell("settings", latency_ms=150)
    load = start_load(simulator, threads=6, requests_each=50)
    try:
        with DixaClient(KEY, ApiSettings(base_url=simulator.url)) as client:
            wait_until(lambda: len(simulator.requests()) > 10, what="the load")
            waits = []
            for _ in range(10):
                began = time.monotonic()
                client.fetch_filter_values("channel")
                waits.append(time.monotonic() - began)
    finally:
        load.kill()
        load.wait(30)
    # This process gets every other token, after 200 ms; the answer takes 150 ms.
    assert max(waits) < 1


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (0.05, 1), (0.01, 1), (0.1, 3), (2, 40)])
def test_no_more_than_the_burst_is_sent_at_once(folder: Path, rate: float, burst: int) -> None:
    assert taken(limiter(rate=rate, burst=burst), tries=50) == burst


def test_two_limiters_of_one_token_take_from_one_bucket(folder: Path) -> None:
    first, second = limiter(), limiter()
    assert taken(first, tries=2) == 2
    assert taken(second) == 1
    assert taken(first) == 0


def test_each_token_has_a_bucket_of_its_own(folder: Path) -> None:
    assert taken(limiter("host one")) == 3
    assert taken(limiter("host two")) == 3


def test_a_caller_that_tries_often_reserves_only_one_token(folder: Path) -> None:
    bucket = limiter(rate=2, burst=1)
    assert taken(bucket, tries=50) == 1
    began = time.monotonic()
    assert bucket.try_acquire()
    assert time.monotonic() - began < 0.7


def test_a_caller_waits_for_the_next_token(folder: Path) -> None:
    bucket = limiter(rate=20, burst=1)
    began = time.monotonic()
    for _ in range(5):
        assert bucket.try_acquire()
    # Four waits of 50 ms, measured in whole milliseconds.
    assert 0.19 < time.monotonic() - began < 1


@pytest.mark.parametrize(
    "content", [None, "", "\n", "no number", "17.5", "1 2 3", "-5", "1762", "\udcff\0", "9" * 24]
)
def test_a_missing_or_unreadable_state_file_stops_no_traffic(
    folder: Path, content: str | None
) -> None:
    assert taken(limiter()) == 3
    state = state_file(folder)
    state.unlink()
    if content is not None:
        state.write_bytes(content.encode(errors="surrogateescape"))
    assert taken(limiter()) == 3


def test_a_clock_that_was_set_back_stops_no_traffic(folder: Path) -> None:
    assert taken(limiter()) == 3
    tomorrow = (time.time_ns() + 86_400 * 10**9) // 1000
    state_file(folder).write_text(str(tomorrow))
    assert taken(limiter()) == 3


def test_the_key_is_in_no_file_and_no_file_name(folder: Path, simulator: Simulator) -> None:
    with DixaClient(KEY, ApiSettings(base_url=simulator.url)) as client:
        client.fetch_metrics()
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert state_file(folder) in paths
    assert not any(KEY in str(path) or KEY in path.read_text() for path in paths)


def test_other_users_cannot_read_the_state_folder(folder: Path) -> None:
    limiter()
    (made,) = folder.iterdir()
    assert made.stat().st_mode & 0o077 == 0


def test_processes_with_different_temporary_folders_share_one_limit(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", rate=RATE, burst=BURST)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    loads = [start_load(simulator, 1, 8, TMPDIR=str(folder)) for folder in folders]
    assert [load.wait(60) for load in loads] == [0, 0]
    assert {one["status"] for one in simulator.requests()} == {200}
    assert not list(tmp_path.rglob("*.pace"))


def test_a_state_folder_of_another_owner_is_an_error(folder: Path) -> None:
    place = folder / f"dixa_assets-{os.getuid()}"
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    place.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=f"^{place}: is not your own folder"):
        limiter()
    place.unlink()
    place.touch()
    with pytest.raises(ConfigError, match=f"^{place}: "):
        limiter()


def test_a_state_folder_that_others_may_write_becomes_private(folder: Path) -> None:
    place = folder / f"dixa_assets-{os.getuid()}"
    place.mkdir(mode=0o777)
    assert taken(limiter()) == 3
    assert place.stat().st_mode & 0o077 == 0


def test_a_state_that_cannot_be_written_is_named_and_nothing_is_sent(
    folder: Path, simulator: Simulator
) -> None:
    with DixaClient(KEY, quick(base_url=simulator.url), Patience(attempts=1)) as client:
        client.fetch_filter_values("channel")
        state = state_file(folder)
        state.unlink()
        state.mkdir()
        simulator.forget_requests()
        with pytest.raises(ApiUnavailable, match=f"rate limit is not available: {state}: Is a dir"):
            client.fetch_filter_values("channel")
    assert simulator.requests() == []
