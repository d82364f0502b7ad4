"""The cost of a catalogue of the usual size and of large ones."""

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from statistics import median

from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets_tests.bench.contestants import import_seconds
from dixa_assets_tests.bench.dagster_runs import DONE, VENDOR, Dagster, dagster_dev
from dixa_assets_tests.bench.table import Found
from dixa_assets_tests.support.processes import (
    PROJECT,
    call_in_process,
    run,
    settings_for,
    store_catalogue,
    wait_until,
)
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.simulator import Simulator, running_simulator

BUILT_IN = len(METRICS) + len(RECORDS)
# Seconds between two looks at the catalogue while a new metric is timed.
LOOK_INTERVAL_SECONDS = 10
REPEATS = 3
VISIBLE = "query ($key: [String!]!) { assetNodeOrError(assetKey: {path: $key}) { __typename } }"
RECENT_RUNS = "{ runsOrError(limit: 20) { ... on Runs { results { status endTime } } } }"
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "empty") {
    __typename ... on PythonError { message } } }"""


def catalogue(folder: Path, quick: bool) -> Iterator[Found]:
    """A new metric, then the code location, with the built-in entries and with many."""
    # A second is easily disturbed, so there are more measurements.
    times = [call_in_process(import_seconds) for _ in range(3 * REPEATS)]
    dagster, own = zip(*times, strict=True)
    imports = median(map(sum, zip(dagster, own, strict=True)))
    thousand = 200 if quick else 1_000
    locations = []
    for entries in (BUILT_IN, thousand):
        yield new_metric(folder / f"dev_{entries}", entries)
        seconds, looks = code_location(folder / f"{entries}", entries)
        locations.append(median(seconds))
        yield Found(
            ours=f"{median(seconds):.1f} s, {median(looks):.1f} s",
            floor=f"{imports:.1f} s for the imports alone",
        )
    seconds, _ = code_location(folder / f"{4 * thousand}", 4 * thousand)
    few, many = locations
    yield Found(
        ours=f"{median(seconds):.1f} s",
        floor=f"{many:.1f} s with 1,000, {few:.1f} s with {BUILT_IN}",
        values=[(each - few) / (many - few) for each in seconds],
    )
    yield Found(floor=f"{median(dagster):.2f} s for Dagster", values=own)


def grow(simulator: Simulator, entries: int) -> None:
    """Add copies of the built-in entries, related to each other, up to a number of entries."""
    left = entries - BUILT_IN
    kinds = [("metrics", metric) for metric in METRICS.values()]
    kinds += [("records", record) for record in RECORDS.values()]  # type: ignore[misc]
    for number in count(2):
        for kind, one in kinds:
            if not left:
                return
            entry = one.to_api()
            entry["id"] = f"{one.id}_{number}"
            for related in {"relatedRecordIds", "relatedMetricIds"} & set(entry):
                entry[related] = [f"{other}_{number}" for other in entry[related]]
            simulator.tell(kind, entry=entry, like=one.id)
            left -= 1


def code_location(folder: Path, entries: int) -> tuple[list[float], list[float]]:
    """The seconds of processes that load the code location, and of looks at the catalogue."""
    folder.mkdir()
    with running_simulator(*VENDOR) as simulator:
        grow(simulator, entries)
        settings = settings_for(simulator, folder)
        store_catalogue(settings)
        # At the vendor's pace.
        analytics = component(simulator, folder, requests_per_second=10.0, burst=2)
        known = fetched(analytics)
        validate = ["dagster", "definitions", "validate", "-w", str(PROJECT / "workspace.yaml")]
        seconds, looks = [], []
        for _ in range(REPEATS):
            began = time.perf_counter()
            run(validate, settings, ok=True)
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            fetched(analytics, known)
            looks.append(time.perf_counter() - began)
    return seconds, looks


def new_metric(folder: Path, entries: int) -> Found:
    """How long a new metric takes to become an asset.

    The seconds count from the look at the catalogue before the metric is added. The value subtracts
    the time between two looks, and what Dagster takes to reload as many assets that do nothing.
    """
    look = str(LOOK_INTERVAL_SECONDS)
    with dagster_dev(folder, DIXA_CATALOGUE_REFRESH_SECONDS=look) as dagster:
        settled(dagster)
        if entries > BUILT_IN:
            grow(dagster.simulator, entries)
            arrival(dagster, "the_last_of_many")
            settled(dagster)
        seconds = []
        for number in range(REPEATS):
            seconds.append(arrival(dagster, f"brand_new_{number}"))
            settled(dagster)
        reload_empty(dagster, entries)
        empty = median(reload_empty(dagster, entries + 1 + number) for number in range(REPEATS))
    return Found(
        ours=f"{median(seconds):.1f} s",
        floor=f"{LOOK_INTERVAL_SECONDS} s from look to look",
        alternative=f"+{empty:.1f} s for as many assets that do nothing",
        values=[each - LOOK_INTERVAL_SECONDS - empty for each in seconds],
    )


def until_visible(dagster: Dagster, *key: str) -> None:
    """Wait until an asset is in the UI."""
    wait_until(
        lambda: dagster.ask(VISIBLE, key=key)["__typename"] == "AssetNode",
        what=f"the asset {key}",
        longest_pause=0.25,
    )


def reload_empty(dagster: Dagster, number: int) -> float:
    """Reload the other code location with a number of assets; seconds until the last is there."""
    (dagster.folder / "number").write_text(f"{number}")
    began = time.perf_counter()
    dagster.ask(RELOAD)
    until_visible(dagster, f"empty_{number - 1}")
    return time.perf_counter() - began


def arrival(dagster: Dagster, metric: str) -> float:
    """Add a metric right after a look, the worst moment; seconds from that look to the asset."""
    dagster.simulator.forget_requests()

    def look() -> str | None:
        """When a look at the catalogue began that has come to the records."""
        sent = dagster.simulator.requests()
        is_near_its_end = any(each["operation"] == "getAnalyticsRecords" for each in sent)
        return min(each["at"] for each in sent) if is_near_its_end else None

    began = wait_until(look, what="a look at the catalogue")
    # The pages of the records take less than a second.
    time.sleep(1)
    dagster.simulator.tell("metrics", entry={"id": metric}, like="csat")
    until_visible(dagster, "dixa_metrics", metric)
    return time.time() - datetime.fromisoformat(began).timestamp()


def settled(dagster: Dagster) -> None:
    """Return when the history sensor requests no more loads; it looks every 15 s."""

    def calm() -> bool:
        runs = dagster.ask(RECENT_RUNS)["results"]
        return (
            bool(runs)
            and all(run["status"] in DONE for run in runs)
            and time.time() - max(run["endTime"] for run in runs) > 20
        )

    wait_until(calm, what="the end of the sensor's loads")
