"""A lake, Dagster's history in Postgres, the pace that machines share, and two workers."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.bench.dagster_runs import dagster_dev, refreshes
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.support.cluster import running_cluster, wheel_environment
from dixa_assets_tests.support.handmade import integers, load, record
from dixa_assets_tests.support.processes import child
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.services import lake, open_database, postgres_database, url_of
from dixa_assets_tests.support.simulator import KEY, running_simulator
from dixa_assets_tests.test_many_machines import KEYS, backfill, until_done, until_ready

FEW = 50
WRITERS, DAYS_EACH = 4, 25
RATE, BURST, EACH = 10, 4, 60
# Each process requests something else, so that the vendor's log tells them apart.
NAMES = ("channel", "queue_id", "agent_id", "initial_direction")


def writes(warehouse: Warehouse, rows: int, times: int) -> list[float]:
    """Milliseconds of each new day; the day that makes the table is left out."""
    took = []
    for number in range(times + 1):
        began = time.monotonic()
        load(warehouse, record(), f"2024-01-{number + 1:02}", integers(*range(rows)))
        took.append(1000 * (time.monotonic() - began))
    return took[1:]


def lake_and_file(folder: Path, quick: bool) -> Iterator[Found]:
    """Days of few and of many rows, staged and written."""
    for rows, times in ((FEW, 15), (50_000, 5)):
        place = folder / str(rows)
        place.mkdir()
        with lake(place) as where:
            file, there = Warehouse(place / "file.duckdb"), open_database(where)
            count = 2 if quick else times
            on_file, on_lake = median(writes(file, rows, count)), writes(there, rows, count)
        yield Found(
            ours=f"{median(on_lake):.0f} ms on a lake",
            floor=f"{on_file:.0f} ms in a file",
            values=[each / on_file for each in on_lake],
        )


def dagster_storage(folder: Path, quick: bool) -> Iterator[Found]:
    """The daily refresh with Dagster's runs and events in SQLite, and in Postgres."""
    times = 1 if quick else 3
    took, ends = [], []
    with postgres_database() as database:
        url = url_of(database).replace("postgresql:", "postgresql+psycopg2:")
        settings = f"storage:\n  postgres:\n    postgres_url: {url}\n"
        for number, storage in enumerate(("", settings)):
            with dagster_dev(folder / f"{number}", storage) as dagster:
                # The first refresh is left out: it creates the tables.
                _, *loads = refreshes(dagster, 1 + times)
                took.append([load.took - load.floor for load in loads])
                loads = refreshes(dagster, times, with_busy_core=True)
                ends.append([load.closing for load in loads])
    for in_sqlite, in_postgres in (took, ends):
        yield Found(
            ours=f"{median(in_postgres):.1f} s",
            floor=f"{median(in_sqlite):.1f} s in SQLite",
            values=[each / median(in_sqlite) for each in in_postgres],
        )


def write_days(where: dict[str, str], number: int, pipe: Connection) -> None:
    """Write days of a month of its own."""
    warehouse = open_database(where, wait_seconds=120)
    warehouse.check()
    pipe.send("ready")
    pipe.recv()
    for day in range(DAYS_EACH):
        load(warehouse, record(), f"2023-{number + 1:02}-{day + 1:02}", integers(*range(FEW)))
    pipe.send("done")


def side_by_side(target: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> float:
    """Seconds that processes take together, from when all of them are ready."""
    with ExitStack() as stack:
        pipes = [stack.enter_context(child(target, *each))[1] for each in arguments]
        for pipe in pipes:
            assert pipe.recv() == "ready"
        began = time.monotonic()
        for pipe in pipes:
            pipe.send("go on")
        for pipe in pipes:
            assert pipe.recv() == "done"
        return time.monotonic() - began


def four_writers(folder: Path, _: bool) -> Iterator[Found]:
    """Processes that write days of one table."""
    with lake(folder) as where:
        seconds = side_by_side(write_days, [(where, number) for number in range(WRITERS)])
    rate = WRITERS * DAYS_EACH / seconds
    yield Found(ours=f"{rate:.1f} writes/s", values=[rate])


def request_values(url: str, pace: str, name: str, pipe: Connection) -> None:
    """Request the values of a filter from six threads, as a load does."""
    settings = ApiSettings(base_url=url, pace_url=pace)
    with DixaClient(KEY, settings) as client, ThreadPoolExecutor(6) as pool:
        pipe.send("ready")
        pipe.recv()
        [*pool.map(lambda _: client.fetch_filter_values(name), range(EACH))]
    pipe.send("done")


def shared_pace(_: Path, __: bool) -> Iterator[Found]:
    """Processes that share the pace of one token."""
    with (
        postgres_database() as database,
        running_simulator("--rate", f"{RATE}", "--burst", f"{BURST}") as simulator,
    ):
        side_by_side(request_values, [(simulator.url, url_of(database), name) for name in NAMES])
        sent = simulator.requests()
    instants = sorted(datetime.fromisoformat(each["at"]).timestamp() for each in sent)
    rate = (len(sent) - 1) / (instants[-1] - instants[0])
    refused = sum(each["status"] == 429 for each in sent) / len(sent)
    # In the first half all processes still have requests to send.
    half = Counter(str(each["path"]) for each in sent[: len(sent) // 2])
    share = min(half.values()) / (len(sent) / 2 / len(NAMES))
    yield Found(
        ours=f"{rate:.2f}/s, {refused:.1%} refused, least share {share:.0%}",
        floor=f"{RATE}/s",
        values=[rate / RATE],
        flawless=refused <= 0.005 and share >= 0.5,
    )


def two_workers(folder: Path, _: bool) -> Iterator[Found]:
    """A backfill of one account by one worker, then by two."""
    python = wheel_environment(folder)
    seconds = {}
    chosen = [str(day) for day in days("2025-10-20", "2025-10-29")]
    settings = {"DIXA_HISTORY_DAYS": "0", "DIXA_DAYS_PER_RUN": "5"}
    for workers in (1, 2):
        place = folder / f"{workers}"
        with (
            running_simulator("--rate", f"{RATE}", "--burst", f"{BURST}") as simulator,
            running_cluster(place, simulator, python, **settings) as cluster,
        ):
            cluster.start_all(workers)
            until_ready(cluster)
            simulator.forget_requests()
            until_done(cluster, backfill(cluster, KEYS, chosen))
            runs = [run for run in cluster.runs() if "dagster/backfill" in run["tags"]]
            seconds[workers] = max(run["endTime"] for run in runs) - min(
                run["startTime"] for run in runs
            )
    yield Found(
        ours=f"{seconds[2]:.0f} s with two workers",
        floor=f"{seconds[1]:.0f} s with one",
        values=[seconds[2] / seconds[1]],
    )
