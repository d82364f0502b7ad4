"""All benchmarks: their names, what each measures, and the targets, by the page with the table."""

from dixa_assets_tests.bench import (
    accounts,
    catalogue,
    dagster_runs,
    history,
    many,
    marts,
    pipeline,
)
from dixa_assets_tests.bench.table import Case, Row

LARGE = "Backfill, 20 metrics and 5 records x 60 days"
SMALL = "Backfill, 10 metrics and 2 records x 30 days"
REFRESH = "Daily refresh, all assets x 7 days"
SPAN = ": first to last request"
SECONDS = "{:+.1f} s"
TAKEN = "{:.1f} s"
SHARED = ", ≤ 0.5% refused, ≥ 50% of a share"

BENCHMARKS = (
    Case(
        "limit",
        dagster_runs.at_the_limit,
        (
            Row(LARGE, "≤", 1.03),
            Row(LARGE + SPAN, "≤", 1.02),
            Row(SMALL, "≤", 1.08),
            Row(SMALL + SPAN, "≤", 1.02),
            Row(f"{SMALL}: from the click to the end"),
            Row(REFRESH, "≤", 1.1),
            Row(REFRESH + SPAN, "≤", 1.02),
            Row(f"{REFRESH}: created to started", "≤", 0.5, SECONDS),
            Row(f"{REFRESH}: last request to end, one core busy", "≤", 2, TAKEN),
        ),
    ),
    Case(
        "textbook",
        dagster_runs.textbook,
        (Row("Backfill of a textbook project, 3 metrics x 10 days"),),
        runs="whole",
    ),
    Case(
        "requests",
        pipeline.requests,
        (
            Row("Requests of a first backfill, a record of 7 rows a day x 60 days", "=", 1),
            Row("Requests of a first backfill, a record of 20,050 rows a day x 20 days", "=", 1),
            Row("Requests of a daily refresh, all assets x 7 days", "=", 1),
        ),
    ),
    Case(
        "pipeline",
        pipeline.pipeline,
        (
            Row("Pipeline, 300,000 rows of 12 fields, limit off", "≥", 0.75),
            Row("The same, against dlt's `rest_api` source", "≥", 7, "{:.1f}"),
            Row("The same, processor for each row", "≤", 1.8),
        ),
    ),
    Case("memory", pipeline.memory, (Row("Peak memory, a day of 1,000,000 rows", "≤", 1.2),)),
    Case(
        "columns",
        pipeline.columns,
        (
            Row("A day of a record with 2,000 columns, in a run of its own", "≤", 1, TAKEN),
            Row("The same, its materialization in Dagster", "≤", 20, "{:.0f} kB"),
        ),
    ),
    Case(
        "history",
        history.history,
        (Row("Loaded partition, after 20 assets x 1,825 days", "≤", 1.1),),
        runs="whole",
    ),
    Case(
        "file",
        history.file_size,
        (Row("Database file, 30 assets x 30 days, each replaced three times", "≤", 1.5),),
        runs="whole",
    ),
    Case(
        "marts",
        marts.marts,
        (
            Row("Slowest mart, 4,000 conversations in 30 days, one thread", "≤", 0.3, TAKEN),
            Row("Slowest mart, 700,000 conversations in three years, one thread", "≤", 15, TAKEN),
        ),
        runs="whole",
    ),
    Case(
        "catalogue",
        catalogue.catalogue,
        tuple(
            row
            for entries in ("39", "1,000")
            for row in (
                Row(f"{entries} entries: a new metric becomes an asset", "≤", 4, SECONDS),
                Row(f"{entries} entries: code location, look at the catalogue"),
            )
        )
        + (
            Row("4,000 entries: code location, beyond that with 39, against 1,000", "≤", 4.4),
            Row("Imports of a code location beyond Dagster's", "≤", 0.15, "{:.2f} s"),
        ),
        runs="whole",
    ),
)
MANY_MACHINES = (
    Case(
        "lake",
        many.lake_and_file,
        (
            Row("A day of 50 rows, staged and written", "≤", 2),
            Row("A day of 50,000 rows, staged and written", "≤", 1.2),
        ),
    ),
    Case(
        "storage",
        many.dagster_storage,
        (
            Row(f"Dagster's history in Postgres: {REFRESH}, beyond the limit"),
            Row(f"Dagster's history in Postgres: {REFRESH}, last request to end, one core busy"),
        ),
    ),
    Case(
        "writers",
        many.four_writers,
        (Row("Four processes writing days of one table", "≥", 4, "{:.1f}/s"),),
    ),
    Case(
        "pace",
        many.shared_pace,
        (Row("10 requests/s shared by four processes", "≥", 0.98, also=SHARED),),
    ),
    Case(
        "workers",
        many.two_workers,
        (Row("Backfill of one account, 5 assets x 10 days, in two runs", "≤", 1.1),),
    ),
    Case("accounts", accounts.in_locations_of(1), runs="named"),
    Case("accounts-together", accounts.in_locations_of(accounts.ACCOUNTS), runs="named"),
)
# The cases by the page under docs/ that has their table.
PAGES = {"benchmarks": BENCHMARKS, "many-machines": MANY_MACHINES}
