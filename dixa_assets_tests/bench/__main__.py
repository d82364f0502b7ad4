"""Measures the project against the vendor's limit, a floor and what people would use instead.

`python -m dixa_assets_tests.bench` writes its tables into docs/benchmarks.md; `--quick`
measures smaller sizes and prints them. Ratios are of one run on one machine; the
seconds behind them are this machine's.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import dagster as dg
import duckdb

from dixa_assets_tests.bench import growth, requests_spent, textbook, textbook_defs, throughput
from dixa_assets_tests.bench.dagster_runs import (
    LIMIT,
    VENDOR,
    Dagster,
    Timed,
    backfill,
    dagster_dev,
    launch,
    quiet,
    refresh,
    some_assets,
    start_of_nothing,
    where_it_went,
)
from dixa_assets_tests.support.processes import PROJECT

DOCUMENT = PROJECT / "docs" / "benchmarks.md"
# How often what is paid in seconds is measured; the table has the medians.
TIMES = 3
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


@dataclass(frozen=True)
class Row:
    """A case of the table: this project, the least it could take, what people use instead.

    `met` is None where no target is set.
    """

    case: str
    ours: str = ""
    floor: str = ""
    alternative: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: " ✓", False: " **missed**"}[self.met]
        ratio = self.ratio + verdict
        cells = (self.case, self.ours, self.floor, self.alternative, ratio, self.target)
        return "| " + " | ".join(cells) + " |"


Case = Callable[[Path, bool], Iterator[Row | str]]


def at_the_limit(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Backfills and the daily refresh under `dagster dev`; each several times."""
    times = 1 if quick else TIMES
    sizes = [(4, 1, 20, 1.04)] if quick else [(20, 5, 60, 1.04), (10, 2, 30, 1.15)]
    with dagster_dev(folder, *VENDOR) as dagster:
        for metrics, records, days, target in sizes:
            assets = some_assets(metrics, records)
            case = f"Backfill, {metrics} metrics and {records} records x {days} days"
            loads = [
                backfill(dagster, assets, days, until=1 + number * days) for number in range(times)
            ]
            yield from limited(case, loads, target=target)
            yield where_it_went(case, loads[-1])
        yield from asked_for(case, dagster, loads[-1], assets, days)
        dailies, idle = [], []
        for _ in range(times):
            dailies.append(refresh(dagster))
            quiet(dagster)
            idle.append(start_of_nothing(dagster))
        case = "Daily refresh, all assets x 7 days"
        yield from limited(case, dailies, target=1.12)
        yield where_it_went(case, dailies[-1])
        started = median(load.started - load.created for load in dailies)
        nothing = median(idle)
        yield Row(
            f"{case}: created to started",
            ours=f"{started:.1f} s",
            floor=f"{nothing:.1f} s: a run without a step",
            ratio=f"+{started - nothing:.1f} s",
            target="≤ +1.5 s",
            met=started - nothing <= 1.5,
        )


def limited(case: str, loads: Sequence[Timed], *, target: float) -> Iterator[Row]:
    """Loads compared with the vendor's limit: the medians, and how far they spread."""
    middle = sorted(loads, key=lambda load: load.ratio)[len(loads) // 2]
    refused = sum(load.refused for load in loads)
    floor = f"{middle.floor:.1f} s: {middle.requests} requests at {LIMIT:g}/s"
    for what, seconds, ratios, most in (
        ("", middle.ended - middle.created, [load.ratio for load in loads], target),
        (
            ": first to last request",
            middle.last - middle.first,
            [load.asking_ratio for load in loads],
            1.02,
        ),
    ):
        yield Row(
            case + what,
            ours=f"{seconds:.1f} s, {refused} refused",
            floor=floor,
            ratio=spread(ratios),
            target=f"≤ {most:.2f}",
            met=median(ratios) <= most and not refused,
        )


def spread(ratios: Sequence[float]) -> str:
    """The median, then the least and the most."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def asked_for(
    case: str, dagster: Dagster, load: Timed, assets: Sequence[str], days: int
) -> Iterator[Row]:
    """From a person's request to the last row: by the UI's backfill, and by one command."""
    seconds = launch(dagster, assets, days)
    yield Row(
        f"{case}: from the click to the end",
        ours=f"{load.ended - load.began + load.waited:.1f} s",
        floor=f"{load.floor:.1f} s",
        alternative=f"{seconds:.1f} s by `dg launch`",
    )


def stock_parts(folder: Path, _: bool) -> Iterator[Row | str]:
    """The textbook project's backfill under `dagster dev`."""
    metrics = len(textbook_defs.METRICS)
    timed = textbook.measure(folder)
    yield Row(
        f"Backfill of a textbook project, {metrics} metrics x {textbook.DAYS} days",
        floor=f"{timed.floor:.1f} s: {timed.requests} requests at {LIMIT:g}/s",
        alternative=f"{timed.ended - timed.began:.1f} s, {timed.refused} refused",
        ratio=f"{(timed.ended - timed.began) / timed.floor:.2f}",
    )


def pages(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Requests that a record's backfill spends."""
    for rows_per_day in (requests_spent.SPARSE, requests_spent.DENSE):
        days = 2 if quick and rows_per_day == requests_spent.DENSE else requests_spent.DAYS
        spent = requests_spent.measure_spent(folder / str(rows_per_day), rows_per_day, days)
        yield Row(
            f"Pages of a record, {rows_per_day:,} rows a day x {days} days",
            ours=f"{spent.pages} pages",
            floor=f"{spent.full_pages} full pages",
            ratio=f"{spent.ratio:.2f}",
            target="≤ 1.15",
            met=spent.ratio <= 1.15,
        )


def pipeline(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Rows per second with the limit off, and where the processor's time goes."""
    folder.mkdir()
    rows = 60_000 if quick else 300_000
    found = throughput.measure_throughput(
        folder, rows, dlt_rows=10_000 if quick else 100_000, times=1 if quick else TIMES
    )
    ours = f"{found.ours.rate:,.0f} rows/s"
    yield Row(
        f"Pipeline, {rows:,} rows of 12 fields, limit off",
        ours=ours,
        floor=f"{found.floor.rate:,.0f} rows/s fetched, decoded, thrown away",
        ratio=f"{found.of_floor:.2f}",
        target="≥ 0.75",
        met=found.of_floor >= 0.75,
    )
    yield Row(
        "The same, against dlt's `rest_api` source",
        ours=ours,
        alternative=f"{found.dlt.rate:,.0f} rows/s",
        ratio=f"{found.times_dlt:.1f}",
        target="≥ 7",
        met=found.times_dlt >= 7,
    )
    profile = throughput.measure_profile(folder, rows)
    lines = [f"| {what} | {share:.0%} |" for what, share in profile[:12]]
    yield "\n".join(["| pipeline, by function | share |", "|---|---|", *lines])


def memory(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Peak memory of large and small partitions."""
    folder.mkdir()
    large, small = (100_000, 10_000) if quick else (1_000_000, 100_000)
    found = throughput.measure_memory(folder, large, small)
    yield Row(
        f"Peak memory, a day of {large:,} rows",
        ours=f"{found.large.memory / 1e6:.0f} MB",
        floor=f"{found.small.memory / 1e6:.0f} MB for {small:,} rows",
        ratio=f"{found.ratio:.2f}",
        target="≤ 1.15",
        met=found.ratio <= 1.15,
    )


def history(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Loads after years of history."""
    found = growth.measure_history(folder, quick=quick)
    yield Row(
        f"Loaded partition, after {found.assets} assets x {found.days:,} days",
        ours=f"{1000 * found.seconds[1]:.0f} ms",
        floor=f"{1000 * found.seconds[0]:.0f} ms on an empty instance",
        ratio=spread(found.ratios),
        target="≤ 1.10",
        met=median(found.ratios) <= 1.1,
    )


def size(folder: Path, quick: bool) -> Iterator[Row | str]:
    """The file after its days were replaced."""
    found = growth.measure_file(folder, quick=quick)
    yield Row(
        f"Database file, {found.assets} assets x {found.days} days, each replaced three times",
        ours=f"{found.states[-1].size / 1e6:.1f} MB",
        floor=f"{found.states[0].size / 1e6:.1f} MB freshly written",
        ratio=f"{found.ratio:.2f}",
        target="≤ 1.50",
        met=found.ratio <= 1.5,
    )


def catalogue(folder: Path, quick: bool) -> Iterator[Row | str]:
    """Catalogues of the usual and of a large size."""
    for found in growth.measure_catalogue(folder, quick=quick):
        worst = max(found.arrivals)
        yield Row(
            f"{found.entries:,} entries: a new metric becomes an asset",
            ours=f"{worst:.1f} s at worst",
            floor=f"{growth.LOOK_SECONDS} s from look to look",
            alternative=f"+{found.empty_seconds:.1f} s for as many assets that do nothing",
            ratio=f"+{worst - growth.LOOK_SECONDS:.1f} s",
            target="≤ +5 s",
            met=worst <= growth.LOOK_SECONDS + 5,
        )
        yield Row(
            f"{found.entries:,} entries: code location, catalogue tick",
            ours=f"{found.process_seconds:.1f} s, {found.unchanged_tick_seconds:.1f} s",
            floor=f"{found.import_seconds:.1f} s for the imports alone",
        )


CASES: dict[str, Case] = {
    "limit": at_the_limit,
    "textbook": stock_parts,
    "pages": pages,
    "pipeline": pipeline,
    "memory": memory,
    "history": history,
    "file": size,
    "catalogue": catalogue,
}
# What a quick run leaves out takes its time however small it is.
SLOW = {"textbook", "file", "history", "catalogue"}


def machine() -> str:
    """What it was measured on."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, Dagster {dg.__version__}, DuckDB {duckdb.__version__}"
    )


def main() -> int:
    """Run the command; 1 when a case missed its target."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, printed only")
    parser.add_argument("--case", choices=CASES, action="append", help="only these, printed only")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, notes = [], []
    began = time.monotonic()
    for name, case in CASES.items():
        if options.case and name not in options.case:
            continue
        if options.quick and name in SLOW and not options.case:
            continue
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for found in case(Path(folder) / name, options.quick):
                if options.quick and isinstance(found, Row):
                    # Targets are for whole sizes: in small ones what is paid once weighs more.
                    found = replace(found, target="", met=None)
                print(found, file=sys.stderr, flush=True)
                (rows if isinstance(found, Row) else notes).append(found)
    print("\n\n".join([as_table(rows), *map(str, notes)]))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if not (options.quick or options.case):
        publish(as_table(rows), [str(note) for note in notes])
    return int(any(isinstance(row, Row) and row.met is False for row in rows))


def as_table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with when and on what they were measured."""
    return "\n".join(
        [
            "| case | ours | floor | alternative | ratio | target |",
            "|---|---|---|---|---|---|",
            *map(str, rows),
            "",
            f"Measured {datetime.now(UTC):%Y-%m-%d} in one run on {machine()}.",
        ]
    )


def publish(table: str, notes: Sequence[str], document: Path | None = None) -> None:
    """Put the table, and where the time goes, into a page, by default docs/benchmarks.md."""
    document = document or DOCUMENT
    document.write_text(
        re.sub(
            rf"{BEGIN}.*{END}",
            lambda _: "\n\n".join([BEGIN, table, *notes, END]),
            document.read_text(),
            flags=re.DOTALL,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
