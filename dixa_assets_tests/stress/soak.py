"""Loads for minutes under many faults at once, then compares every row with the truth.

Run as `python -m dixa_assets_tests.stress soak --minutes 10 --seed 1`. Three loaders share a
database, a token and the vendor's rate limit, on overlapping days. Meanwhile the API fails in many
ways, another process holds the database open, and loaders are killed. In the end the missing days
are loaded once more, and the database must have the simulator's rows.
"""

import io
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from dixa_assets.simulator.world import World
from dixa_assets_tests.stress import loads
from dixa_assets_tests.stress.loads import (
    Job,
    Place,
    judge,
    listed,
    materialize,
    missing_ranges,
    partitions_of,
    stored_catalogue,
    work_place,
)
from dixa_assets_tests.support.processes import child, running
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Json, Simulator
from dixa_assets_tests.support.truth import Partition, rows_of

ASSETS = (
    "dixa_metrics/agent_presence_duration",
    "dixa_metrics/first_response_time",
    "dixa_metrics/messages_sent",
    "dixa_records/created_conversations",
    "dixa_records/messages_sent",
)
# Across the end of summer time.
FIRST_DAY, DAYS = date(2025, 10, 10), 28
CONVERSATIONS_PER_DAY = 200
LOADERS = 3
LAST_LOADS_SECONDS = 300.0
# If a row moves in two readings in a row, nothing tells it from two equal rows.
SECONDS_BETWEEN_SHIFTS = 90.0
PAGE_SIZES = (300, 100, 50)
METRICS, RECORDS = {"operation": "postAnalyticsMetrics"}, {"operation": "postAnalyticsRecords"}
# One of a list is chosen at random. Lawful answers with other data are left out:
# empty and half pages, pages of records without 'data', unknown types, doubled ids.
FAULTS: Mapping[str, list[Json]] = {
    "429 without Retry-After": [{"kind": "status", "status": 429}],
    "429 with Retry-After": [
        {"kind": "status", "status": 429, "headers": {"Retry-After": str(seconds)}}
        for seconds in range(1, 5)
    ],
    "5xx": [{"kind": "status", "status": status} for status in (500, 502, 503, 504)],
    "slow": [{"kind": "slow", "seconds": seconds} for seconds in (0.5, 1, 2, 4)],
    **{kind: [{"kind": kind}] for kind in ("reset", "truncate", "html", "malformed_json", "nan")},
    "missing_data": [{"kind": "missing_data", **METRICS}],
    **{kind: [{"kind": kind, **RECORDS}] for kind in ("repeated_key", "foreign_host")},
    "expired_key": [{"kind": "expired_key", **RECORDS}],
    "shift": [{"kind": "shift", "times": 1, **RECORDS}],
    "page size refused": [],
}


@dataclass
class Tally(loads.Tally):
    """The sum of a soak."""

    loads: int = 0
    partitions: int = 0
    retries: int = 0
    failed: int = 0
    holds: int = 0
    missing: int = 0
    requests: Mapping[str, Any] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        statuses = {
            "no answer" if status == "None" else status: count
            for status, count in self.requests["statuses"].items()
        }
        return (
            f"{self.requests['total']} requests ({listed(statuses)}; "
            f"{self.struck.total()} struck by a fault: {listed(self.struck)}), "
            f"{self.loads} loads of {self.partitions} partitions, {self.retries} retries, "
            f"{self.failed} failed runs, {self.kills} kills, database held {self.holds} times, "
            f"{self.missing} partitions loaded again at the end; "
            f"violations: {self.listed_violations()}"
        )


@dataclass(frozen=True)
class Loader:
    """A running load, its log, and the stack that ends it."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    end: ExitStack

    @classmethod
    def start(cls, place: Place, job: Job, number: int) -> "Loader":
        log = Path(place.settings["HOME"]) / f"load_{number}.log"
        end = ExitStack()
        process = end.enter_context(running(materialize(*job), place.settings, log))
        return cls(job, process, log, end)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self, tally: Tally) -> None:
        """Count what an ended load did."""
        self.end.close()
        text = self.log.read_text(errors="replace")
        tally.loads += 1
        tally.partitions += len(re.findall(r"\d+ rows, \d+ requests", text))
        tally.retries += text.count("Next attempt in")
        if self.process.returncode == -signal.SIGKILL:
            tally.kills += 1
        elif self.process.returncode:
            tally.failed += 1
            # A run of this project that cannot load a day fails with a Failure and nothing else.
            tally.note(runs_that_failed_unexpectedly=int(".Failure: " not in text))


def soak(simulator: Simulator, folder: Path, *, minutes: float, seed: int) -> Tally:
    """Load under faults for some minutes, then load the missing days and compare."""
    catalogue = stored_catalogue(simulator, folder / "catalogue")
    tally = Tally()
    with work_place(simulator, folder / "load", catalogue) as place:
        with trouble(simulator, seed, tally), held_database(place.database, seed, tally):
            requested = load_for(minutes, place, random.Random(seed), tally)
        tally.requests = simulator.look("summary")
        world = World(conversations_per_day=CONVERSATIONS_PER_DAY)
        truth = {(asset, day): rows_of(world, asset, day) for asset, day in requested}
        print(f"comparing {len(requested)} partitions before and after the last load", flush=True)
        before = judge(place.database, truth, ASSETS)
        tally.note_database(before, place.reported(ASSETS))
        missing = requested - (place.reported(ASSETS) & before.present)
        tally.missing = len(missing)
        # At least one load, because it removes the staging files of killed loads.
        load_missing(simulator, place, missing or {min(requested)}, tally)
        after = judge(place.database, truth, ASSETS)
        tally.note_database(after, requested)
        tally.note_end(place, after, ASSETS)
    return tally


def load_for(minutes: float, place: Place, rng: random.Random, tally: Tally) -> set[Partition]:
    """Keep some loaders running and kill one now and then; all partitions of their jobs."""
    requested: set[Partition] = set()
    loaders: list[Loader] = []
    started = 0
    ends = time.monotonic() + minutes * 60
    next_kill = time.monotonic() + rng.uniform(10, 30)
    with ExitStack() as stack:
        while loaders or time.monotonic() < ends:
            for loader in [each for each in loaders if each.process.poll() is not None]:
                loaders.remove(loader)
                loader.finish(tally)
                code = loader.process.returncode
                print(f"{loader.log.stem} ended with {code}; {tally.partitions} partitions")
            if time.monotonic() < ends:
                while len(loaders) < LOADERS:
                    job = random_job(rng, [each.job for each in loaders])
                    requested |= partitions_of(*job)
                    loaders.append(Loader.start(place, job, started))
                    stack.callback(loaders[-1].end.close)
                    started += 1
                if time.monotonic() > next_kill:
                    rng.choice(loaders).kill()
                    next_kill = time.monotonic() + rng.uniform(10, 40)
            elif time.monotonic() > ends + LAST_LOADS_SECONDS:
                tally.note(loads_that_hung=len(loaders))
                for loader in loaders:
                    loader.kill()
            time.sleep(0.1)
    return requested


def random_job(rng: random.Random, running_jobs: list[Job]) -> Job:
    """Some assets and days; sometimes the job of a running load."""
    if running_jobs and rng.random() < 0.25:
        return rng.choice(running_jobs)
    assets = tuple(sorted(rng.sample(ASSETS, rng.randint(1, 3))))
    length = rng.randint(2, 9)
    first = FIRST_DAY + timedelta(days=rng.randint(0, DAYS - length))
    return assets, first.isoformat(), (first + timedelta(days=length - 1)).isoformat()


@contextmanager
def trouble(simulator: Simulator, seed: int, tally: Tally) -> Iterator[None]:
    """Let the API fail in short bursts until the end of the block."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(make_trouble, simulator, stop, random.Random(seed + 1))
        try:
            yield
        finally:
            stop.set()
        tally.struck = struck.result()


def make_trouble(simulator: Simulator, stop: threading.Event, rng: random.Random) -> Counter[str]:
    """One burst after the other; the number of requests that each fault has struck."""
    struck: Counter[str] = Counter()
    next_shift = 0.0
    while not stop.wait(rng.uniform(0.5, 4)):
        kind = rng.choice([*FAULTS])
        if kind == "shift":
            if time.monotonic() < next_shift:
                continue
            next_shift = time.monotonic() + SECONDS_BETWEEN_SHIFTS
        if kind == "page size refused":
            simulator.tell("settings", max_page_limit=rng.choice(PAGE_SIZES[1:]))
        else:
            simulator.tell("faults", **rng.choice(FAULTS[kind]))
        stop.wait(rng.uniform(0.3, 3))
        struck[kind] += sum(fault["fired"] for fault in simulator.look("faults"))
        calm(simulator)
    return struck


def calm(simulator: Simulator) -> None:
    """Let the API answer as it should."""
    simulator.end_faults()
    simulator.tell("settings", max_page_limit=PAGE_SIZES[0])


@contextmanager
def held_database(database: Path, seed: int, tally: Tally) -> Iterator[None]:
    """Another process that opens the database now and then, until the end of the block."""
    with child(hold_now_and_then, str(database), seed + 2) as (_, pipe):
        yield
        while pipe.poll():
            tally.holds += bool(pipe.recv())


def hold_now_and_then(database: str, seed: int, pipe: Connection) -> None:
    """Open the database for a second or three, as a DuckDB shell does."""
    rng = random.Random(seed)
    while True:
        time.sleep(rng.uniform(5, 20))
        read_only = rng.random() < 0.5
        for _ in range(200):
            # A connection for writing would create a missing file.
            with suppress(duckdb.Error):
                if Path(database).exists():
                    with duckdb.connect(database, read_only=read_only):
                        pipe.send(True)
                        time.sleep(rng.uniform(1, 3))
                    break
            time.sleep(0.02)


def load_missing(simulator: Simulator, place: Place, missing: set[Partition], tally: Tally) -> None:
    """Load partitions in this process, without faults and without a rate limit."""
    simulator.tell("settings", rate=0)
    analytics = component(simulator, place.database.parent, duckdb_path=str(place.database))
    catalogue = fetched(analytics)
    with redirect_stderr(io.StringIO()):
        for job in missing_ranges(missing):
            done = load(analytics, *job, instance=place.instance, catalogue=catalogue)
            tally.note(last_loads_that_failed=int(not done.success))
