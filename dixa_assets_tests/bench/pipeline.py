"""Rows per second with the limit off, memory, and the number of requests that loads need."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from dixa_assets.simulator.world import World
from dixa_assets_tests.bench import contestants
from dixa_assets_tests.bench.dagster_runs import days_until
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.bench.vendor import ASSET, PAGE_LIMIT, requests_to, vendor, wide
from dixa_assets_tests.support.processes import call_in_process
from dixa_assets_tests.support.scenario import component, days, fetched, load
from dixa_assets_tests.support.serve import serve_in_process
from dixa_assets_tests.support.simulator import NOW, Simulator, running_simulator
from dixa_assets_tests.support.truth import sent_rows

TIMES, DAYS = 3, 10


@dataclass(frozen=True)
class Loaded:
    """A load in a process of its own: rows, seconds, peak bytes, nanoseconds by function."""

    rows: int
    seconds: float
    processor: float
    memory: int
    spent: dict[str, int]

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of the processor for each row."""
        return self.processor / self.rows * 1e6


def run(function: Callable[..., dict[str, Any]], expected: int, *arguments: Any) -> Loaded:
    """Run a contestant, which must load exactly the expected number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        own = [folder if each is Path else each for each in arguments]
        loaded = Loaded(**call_in_process(function, *own))
    assert loaded.rows == expected, f"{function.__name__} loaded {loaded.rows} rows of {expected}"
    return loaded


def pipeline(_: Path, quick: bool) -> Iterator[Found | str]:
    """Ours and the floor by turns, because a machine is slower at times; dlt once."""
    costs = []
    rows = 60_000 if quick else 300_000
    dlt_days = 1 if quick else 3
    ours, floors = [], []
    with serve_in_process(vendor, rows // DAYS) as url:
        for _turn in range(1 if quick else TIMES):
            ours.append(run(contestants.load_with_ours, rows, url, DAYS, Path))
            # One page after another, or six at a time as a load does: the faster is the floor.
            fetched = [
                run(contestants.fetch_and_discard, rows, url, DAYS, days_at_once)
                for days_at_once in (1, 6)
            ]
            floors.append(max(fetched, key=lambda loaded: loaded.rate))
            costs.append(min(each.cost for each in fetched))
        profile = run(contestants.load_with_ours, rows, url, DAYS, Path, True)
        dlt = None
        if find_spec("dlt"):
            there = rows // DAYS * dlt_days
            dlt = run(contestants.load_with_dlt, there, url, dlt_days, Path)
    rates = [loaded.rate for loaded in ours]
    yield Found(
        ours=f"{median(rates):,.0f} rows/s",
        floor=f"{median(each.rate for each in floors):,.0f} rows/s fetched, decoded, discarded",
        values=[rate / floor.rate for rate, floor in zip(rates, floors, strict=True)],
    )
    yield Found(
        ours=f"{median(rates):,.0f} rows/s",
        alternative=f"{dlt.rate:,.0f} rows/s" if dlt else "dlt is not installed",
        values=[rate / dlt.rate for rate in rates] if dlt else (),
    )
    yield Found(
        ours=f"{median(each.cost for each in ours):.0f} µs",
        floor=f"{median(costs):.0f} µs",
        values=[each.cost / cost for each, cost in zip(ours, costs, strict=True)],
    )
    total = sum(profile.spent.values())
    lines = [
        f"| {what} | {spent / total:.0%} | {spent / rows / 1000:.1f} |"
        for what, spent in list(profile.spent.items())[:12]
    ]
    head = "| pipeline, by function | share | µs of the processor for each row |\n|---|---|---|"
    yield "\n".join([head, *lines])


def memory(_: Path, quick: bool) -> Iterator[Found]:
    """Peak memory of a day with many rows, and of one with a tenth of them."""
    peaks, alone = [], []
    for rows in (100_000, 10_000) if quick else (1_000_000, 100_000):
        with serve_in_process(vendor, rows) as url:
            loads = [
                run(contestants.load_with_ours, rows, url, 1, Path)
                for _ in range(1 if quick else TIMES)
            ]
            alone.append(run(contestants.load_with_duckdb, rows, url, 1, Path).memory / 1e6)
        peaks.append([loaded.memory / 1e6 for loaded in loads])
    large, small = peaks
    yield Found(
        ours=f"{median(large):.0f} MB",
        floor=f"{median(small):.0f} MB for a tenth of the rows",
        alternative="DuckDB alone: {:.0f} MB, {:.0f} MB for a tenth".format(*alone),
        values=[each / median(small) for each in large],
    )


def columns(folder: Path, quick: bool) -> Iterator[Found]:
    """Days of a record with many columns, each in a run of its own, and the last day's event."""
    *rest, first = reversed(days_until(1, 1 + TIMES))
    seconds = []
    with (
        serve_in_process(wide, 200 if quick else 2_000) as url,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        analytics = component(Simulator(url), folder, timezone="UTC")
        catalogue = fetched(analytics)
        for day in (first, *reversed(rest)):
            began = time.perf_counter()
            assert load(analytics, [ASSET], day, catalogue=catalogue, instance=instance).success
            seconds.append(time.perf_counter() - began)
        (last,) = instance.fetch_materializations(dg.AssetKey(ASSET.split("/")), limit=1).records
    yield Found(f"{median(seconds[1:]):.1f} s", f"{seconds[0]:.1f} s the first", values=seconds[1:])
    yield Found(values=[len(last.event_log_entry.to_json()) / 1000])


def requests(folder: Path, quick: bool) -> Iterator[Found]:
    """Requests of a record's first backfill, with few and with many rows, and of a refresh."""
    last = datetime.now(UTC).date() - timedelta(days=2)
    for rows_per_day, number in ((7, 60), (20_050, 2 if quick else 20)):
        with serve_in_process(vendor, rows_per_day) as url:
            place = folder / str(rows_per_day)
            place.mkdir()
            analytics = component(Simulator(url), place, timezone="UTC")
            first = last - timedelta(days=number - 1)
            assert load(analytics, [ASSET], str(first), str(last)).success
            yield fewest(requests_to(url), number * math.ceil(rows_per_day / PAGE_LIMIT))
    with running_simulator("--rate", "0", "--now", NOW.isoformat()) as simulator:
        analytics = component(simulator, folder)
        catalogue = fetched(analytics)
        definitions = analytics.build_definitions(catalogue)
        context = dg.build_schedule_context(scheduled_execution_time=NOW)
        schedule = definitions.resolve_schedule_def("dixa_daily_refresh")
        (request,) = schedule.evaluate_tick(context).run_requests
        assert request.asset_selection
        keys = {"/".join(key.path) for key in request.asset_selection}
        first_day, last_day = (
            request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")
        )
        simulator.forget_requests()
        assert load(analytics, sorted(keys), first_day, last_day, catalogue=catalogue).success
        yield fewest(len(simulator.requests()), fewest_of_refresh(keys, first_day, last_day))


def fewest_of_refresh(keys: set[str], first: str, last: str) -> int:
    """One request for each filter, each metric and day, and each page of a record's day."""
    world, needed = World(), 0
    for key in keys:
        schema, name = key.split("/")
        if schema == "dixa_filters":
            needed += 1
            continue
        for day in days(first, last):
            rows = sent_rows(world, name, day) if schema == "dixa_records" else []
            needed += max(math.ceil(len(rows) / PAGE_LIMIT), 1)
    return needed


def fewest(sent: int, needed: int) -> Found:
    """Requests that were sent, over the fewest possible."""
    return Found(f"{sent:,} requests", f"{needed:,} days and pages", values=[sent / needed])
