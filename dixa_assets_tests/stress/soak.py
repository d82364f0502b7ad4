"""Loads for minutes under everything that goes wrong at once, then holds every row against truth.

Run as `python -m dixa_assets_tests.stress.soak --minutes 10 --seed 1`. Three loaders share one
database, one token and the vendor's rate limit, on overlapping days; meanwhile the API fails in
many ways, another process holds the database open, and loaders are killed. In the end the missing
days are loaded once more, and the warehouse must be the simulator's world row by row.
"""

import argparse
import io
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx

from dixa_assets.simulator.world import World
from dixa_assets_tests.stress.crash import (
    Partition,
    Place,
    Verdict,
    judge,
    materialize,
    missing_ranges,
    partitions_of,
    progress,
    rows_of,
    stored_catalogue,
    work_place,
)
from dixa_assets_tests.support.processes import folder_of_command, running
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import NOW, Simulator, running_simulator

Job = tuple[tuple[str, ...], str, str]

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
# A row that moves in two readings of a page one after the other cannot be told from two equal rows.
SECONDS_BETWEEN_SHIFTS = 90.0
PAGE_SIZES = (300, 100, 50)

Wish = dict[str, Any]
# What the API does wrong. Left out is whatever is a lawful answer with other data in it: empty
# and half pages, pages of records without 'data', unknown types, doubled ids.
FAULTS: Mapping[str, Callable[[random.Random], Wish]] = {
    "429 without Retry-After": lambda rng: {"kind": "status", "status": 429},
    "429 with Retry-After": lambda rng: {
        "kind": "status",
        "status": 429,
        "headers": {"Retry-After": str(rng.randint(1, 4))},
    },
    "5xx": lambda rng: {"kind": "status", "status": rng.choice([500, 502, 503, 504])},
    "reset": lambda rng: {"kind": "reset"},
    "truncate": lambda rng: {"kind": "truncate"},
    "slow": lambda rng: {"kind": "slow", "seconds": rng.uniform(0.5, 4)},
    "html": lambda rng: {"kind": "html"},
    "malformed_json": lambda rng: {"kind": "malformed_json"},
    "nan": lambda rng: {"kind": "nan"},
    "missing_data": lambda rng: {"kind": "missing_data", "operation": "postAnalyticsMetrics"},
    "repeated_key": lambda rng: {"kind": "repeated_key", "operation": "postAnalyticsRecords"},
    "foreign_host": lambda rng: {"kind": "foreign_host", "operation": "postAnalyticsRecords"},
    "expired_key": lambda rng: {"kind": "expired_key", "operation": "postAnalyticsRecords"},
    "shift": lambda rng: {"kind": "shift", "operation": "postAnalyticsRecords", "times": 1},
    "page size refused": lambda rng: {},
}


@dataclass
class Tally:
    """What a soak came to. Whatever is in `violations` must not happen."""

    loads: int = 0
    partitions: int = 0
    retries: int = 0
    failed: int = 0
    kills: int = 0
    holds: int = 0
    missing: int = 0
    requests: Mapping[str, Any] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        statuses = {
            "no answer" if status == "None" else status: count
            for status, count in sorted(self.requests["statuses"].items())
        }
        wrong = {name: self.violations[name] for name in ("lost", "duplicated", "half-written")}
        wrong |= self.violations
        return (
            f"{self.requests['total']} requests ({listed(statuses)}; "
            f"{self.struck.total()} struck by a fault: {listed(self.struck)}), "
            f"{self.loads} loads of {self.partitions} partitions, {self.retries} retries, "
            f"{self.failed} failed runs, {self.kills} kills, database held {self.holds} times, "
            f"{self.missing} partitions loaded again at the end; violations: {listed(wrong)}"
        )


@dataclass(frozen=True)
class Loader:
    """A running load, the file it logs to, and what ends it."""

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
        tally.retries += text.count("Next try in")
        if self.process.returncode == -signal.SIGKILL:
            tally.kills += 1
        elif self.process.returncode:
            tally.failed += 1
            # This project fails on purpose with a Failure; anything else is a fault of its own.
            if ".Failure: " not in text:
                tally.violations["runs that failed unexpectedly"] += 1


def soak(
    simulator: Simulator,
    folder: Path,
    *,
    minutes: float,
    seed: int,
    say: Callable[[str], None] = progress,
) -> Tally:
    """Load under fire for so many minutes, then put everything right and compare."""
    catalogue = stored_catalogue(simulator, folder / "catalogue")
    tally = Tally()
    with work_place(simulator, folder / "load", catalogue) as place:
        with trouble(simulator, seed, tally), held_database(place.database, seed, tally):
            asked = load_for(minutes, place, random.Random(seed), tally, say)
        tally.requests = httpx.get(f"{simulator.url}/simulator/summary", timeout=30).json()
        world = World(conversations_per_day=CONVERSATIONS_PER_DAY)
        truth = {
            (asset, day): rows_of(world, asset, date.fromisoformat(day)) for asset, day in asked
        }
        say(f"comparing {len(asked)} partitions before and after the last load")
        before = judge(place.database, truth, ASSETS)
        note(tally, before, place.reported(ASSETS))
        missing = asked - (place.reported(ASSETS) & before.present)
        tally.missing = len(missing)
        # One load there is in any case: it clears away what killed ones have left in the staging.
        load_missing(simulator, place, missing or {min(asked)}, tally)
        after = judge(place.database, truth, ASSETS)
        note(tally, after, asked)
        differing = after.present ^ place.reported(ASSETS)
        tally.violations += Counter({"days Dagster and the table disagree about": len(differing)})
        tally.violations += Counter({"staging leftovers": len(place.leftovers())})
    return tally


def load_for(
    minutes: float,
    place: Place,
    rng: random.Random,
    tally: Tally,
    say: Callable[[str], None],
) -> set[Partition]:
    """Keep some loaders running, kill one now and then; every partition any was asked for."""
    asked: set[Partition] = set()
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
                say(f"load {loader.log.stem[5:]} ended with {code}; {tally.partitions} partitions")
            if time.monotonic() < ends:
                while len(loaders) < LOADERS:
                    job = random_job(rng, [each.job for each in loaders])
                    asked |= partitions_of(*job)
                    loaders.append(Loader.start(place, job, started))
                    stack.callback(loaders[-1].end.close)
                    started += 1
                if time.monotonic() > next_kill:
                    rng.choice(loaders).kill()
                    next_kill = time.monotonic() + rng.uniform(10, 40)
            elif time.monotonic() > ends + LAST_LOADS_SECONDS:
                tally.violations["loads that hung"] += len(loaders)
                for loader in loaders:
                    loader.kill()
            time.sleep(0.1)
    return asked


def random_job(rng: random.Random, running_jobs: list[Job]) -> Job:
    """Some assets for some days; now and then what another load is just doing."""
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
    """One burst after the other; how many requests each kind of fault has struck."""
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
            simulator.tell("faults", **FAULTS[kind](rng))
        stop.wait(rng.uniform(0.3, 3))
        faults = httpx.get(f"{simulator.url}/simulator/faults", timeout=30).json()
        struck[kind] += sum(fault["fired"] for fault in faults)
        calm(simulator)
    return struck


def calm(simulator: Simulator) -> None:
    """Let the API answer as it should."""
    httpx.delete(f"{simulator.url}/simulator/faults", timeout=30).raise_for_status()
    simulator.tell("settings", max_page_limit=PAGE_SIZES[0])


@contextmanager
def held_database(database: Path, seed: int, tally: Tally) -> Iterator[None]:
    """Another process that has the database open now and then, until the end of the block."""
    context = multiprocessing.get_context("spawn")
    holds = context.Value("i", 0)
    process = context.Process(target=hold_now_and_then, args=(str(database), seed + 2, holds))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        tally.holds = holds.value


def hold_now_and_then(database: str, seed: int, holds: Any) -> None:
    """Open the database as somebody with a DuckDB shell would, for a second or three."""
    rng = random.Random(seed)
    while True:
        time.sleep(rng.uniform(5, 20))
        read_only = rng.random() < 0.5
        for _ in range(200):
            with suppress(duckdb.Error):
                # Without this a connection for writing would make the file.
                if Path(database).exists():
                    with duckdb.connect(database, read_only=read_only):
                        holds.value += 1
                        time.sleep(rng.uniform(1, 3))
                    break
            time.sleep(0.02)


def load_missing(simulator: Simulator, place: Place, missing: set[Partition], tally: Tally) -> None:
    """Load what is missing in this process, without faults and without a rate limit."""
    simulator.tell("settings", rate=0)
    analytics = component(simulator, place.database.parent, duckdb_path=str(place.database))
    catalogue = fetched(analytics)
    with redirect_stderr(io.StringIO()):
        for job in missing_ranges(missing):
            done = load(analytics, *job, instance=place.instance, catalogue=catalogue)
            tally.violations += Counter({"last loads that failed": int(not done.success)})


def note(tally: Tally, verdict: Verdict, expected: Iterable[Partition]) -> None:
    """Add what is wrong with the database, and what of `expected` is not in it."""
    tally.violations += Counter(
        {
            "lost": len(set(expected) - verdict.present),
            "duplicated": len(verdict.duplicated),
            "half-written": len(verdict.half_written),
            "disagreements of the log": len(verdict.disagreeing),
        }
    )


def listed(counts: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def main() -> None:
    """Run the command; exit with 1 when anything happened that must not."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.stress.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    world = ["--conversations-per-day", str(CONVERSATIONS_PER_DAY), "--now", NOW.isoformat()]
    began = time.monotonic()
    with (
        folder_of_command("soak") as folder,
        running_simulator("--rate", "10", "--burst", "4", *world) as simulator,
    ):
        tally = soak(simulator, folder, minutes=options.minutes, seed=options.seed)
        print(f"{(time.monotonic() - began) / 60:.1f} minutes: {tally}; seed {options.seed}")
        if tally.violations:
            sys.exit(1)


if __name__ == "__main__":
    main()
