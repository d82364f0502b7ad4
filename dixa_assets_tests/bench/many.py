"""Measures a lake against a file, the shared pace, and two workers against one.

`python -m dixa_assets_tests.bench.many` writes its table into docs/many-machines.md. It takes a
Postgres and the extra `services`.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.bench.__main__ import Row, as_table, publish
from dixa_assets_tests.support.cluster import running_cluster, wheel_environment
from dixa_assets_tests.support.handmade import integers, load, record
from dixa_assets_tests.support.processes import PROJECT, child
from dixa_assets_tests.support.services import lake, open_lake, postgres_database, url_of
from dixa_assets_tests.support.simulator import KEY, running_simulator
from dixa_assets_tests.test_many_machines import DAYS, KEYS, backfill, until_done, until_ready

DOCUMENT = PROJECT / "docs" / "many-machines.md"
MANY, FEW, TIMES = 50_000, 50, 15
WRITERS, DAYS_EACH = 4, 25
RATE, BURST, EACH = 10, 4, 60
# What each process asks for, so that its requests can be told from the others'.
NAMES = ("channel", "queue_id", "agent_id", "initial_direction")


def writes(warehouse: Warehouse, rows: int, times: int) -> float:
    """Seconds that a new day takes, the median; the first makes the table."""
    seconds = []
    for number in range(times + 1):
        began = time.monotonic()
        load(warehouse, record(), f"2024-01-{number + 1:02}", integers(*range(rows)))
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def on_both(folder: Path, where: dict[str, str], rows: int, times: int, target: float) -> Row:
    file = Warehouse(folder / f"{rows}.duckdb")
    there = open_lake(where)
    on_file, on_lake = writes(file, rows, times), writes(there, rows, times)
    return Row(
        f"A day of {rows:,} rows, staged and written",
        ours=f"{1000 * on_lake:.0f} ms on a lake",
        floor=f"{1000 * on_file:.0f} ms in a file",
        ratio=f"{on_lake / on_file:.2f}",
        target=f"≤ {target:.1f}",
        met=on_lake / on_file <= target,
    )


def write_days(where: dict[str, str], number: int, pipe: Connection) -> None:
    """Write days of a month of its own."""
    warehouse = open_lake(where, wait_seconds=120)
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


def four_writers(where: dict[str, str]) -> Row:
    seconds = side_by_side(write_days, [(where, number) for number in range(WRITERS)])
    rate = WRITERS * DAYS_EACH / seconds
    return Row(
        "Four processes writing days of one table",
        ours=f"{rate:.1f} writes/s",
        ratio=f"{rate:.1f}/s",
        target="≥ 4/s",
        met=rate >= 4,
    )


def ask(url: str, pace: str, name: str, pipe: Connection) -> None:
    """Ask for one thing from six threads, as a load does."""
    from concurrent.futures import ThreadPoolExecutor

    with DixaClient(KEY, base_url=url, pace_url=pace) as client, ThreadPoolExecutor(6) as pool:
        pipe.send("ready")
        pipe.recv()
        [*pool.map(lambda _: client.fetch_filter_values(name), range(EACH))]
    pipe.send("done")


def shared_pace() -> Row:
    with (
        postgres_database() as database,
        running_simulator("--rate", f"{RATE}", "--burst", f"{BURST}") as simulator,
    ):
        pace = url_of(database)
        side_by_side(ask, [(simulator.url, pace, name) for name in NAMES])
        asked = simulator.requests()
    instants = sorted(datetime.fromisoformat(each["at"]).timestamp() for each in asked)
    rate = (len(asked) - 1) / (instants[-1] - instants[0])
    refused = sum(each["status"] == 429 for each in asked) / len(asked)
    # Of the first half, in which all four still ask.
    half = Counter(str(each["path"]) for each in asked[: len(asked) // 2])
    share = min(half.values()) / (len(asked) / 2 / len(NAMES))
    return Row(
        f"{RATE} requests/s shared by four processes",
        ours=f"{rate:.2f}/s, {refused:.1%} refused, least share {share:.0%}",
        floor=f"{RATE}/s",
        ratio=f"{rate / RATE:.2f}",
        target="≥ 0.98, ≤ 0.5% refused, ≥ 50% of a share",
        met=rate / RATE >= 0.98 and refused <= 0.005 and share >= 0.5,
    )


def two_workers(folder: Path) -> Row:
    """A backfill of one account by one worker, then by two."""
    python = wheel_environment(folder)
    seconds = {}
    for workers in (1, 2):
        with (
            running_simulator("--rate", f"{RATE}", "--burst", f"{BURST}") as simulator,
            running_cluster(
                folder / f"{workers}", simulator, python,
                DIXA_HISTORY_DAYS="0", DIXA_DAYS_PER_RUN="5",
            ) as cluster,
        ):  # fmt: skip
            cluster.start_all(workers)
            until_ready(cluster)
            simulator.forget_requests()
            until_done(cluster, backfill(cluster, KEYS, DAYS))
            runs = cluster.runs()
            seconds[workers] = max(run["endTime"] for run in runs) - min(
                run["startTime"] for run in runs if "dagster/backfill" in run["tags"]
            )
    ratio = seconds[2] / seconds[1]
    return Row(
        f"Backfill of one account, {len(KEYS)} assets x {len(DAYS)} days, in two runs",
        ours=f"{seconds[2]:.0f} s with two workers",
        floor=f"{seconds[1]:.0f} s with one",
        ratio=f"{ratio:.2f}",
        target="≤ 1.1",
        met=ratio <= 1.1,
    )


def main() -> int:
    """Measure, print, publish; 1 when a target is missed."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with lake(folder) as where:
            rows.append(on_both(folder, where, FEW, TIMES, 2.0))
        with lake(folder / "large") as where:
            rows.append(on_both(folder, where, MANY, 5, 1.2))
        with lake(folder / "four") as where:
            rows.append(four_writers(where))
        rows.append(shared_pace())
        rows.append(two_workers(folder))
    for row in rows:
        print(row, flush=True)
    publish(as_table(rows), [], DOCUMENT)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
