"""Loads of the same rows by this project, by HTTP and JSON alone, by DuckDB alone, and by dlt.

Each runs in a process of its own, so this module imports the libraries when a load needs them.
The seconds exclude the imports and the catalogue, and for DuckDB the writing of its file.
"""

import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

FIRST_DAY = date(2025, 3, 3)
RECORD, ASSET, PATH = "bench", "dixa_records/bench", "/v1/analytics/records"
SAMPLE_SECONDS = 0.01


def load_with_ours(url: str, days: int, folder: str, profiled: bool = False) -> dict[str, Any]:
    """A backfill of the vendor's record by this project."""
    import duckdb

    from dixa_assets_tests.support.scenario import component, fetched, load
    from dixa_assets_tests.support.simulator import Simulator

    analytics = component(Simulator(url), Path(folder), timezone="UTC")
    catalogue = fetched(analytics)
    last = FIRST_DAY + timedelta(days=days - 1)

    def load_all() -> int:
        result = load(analytics, [ASSET], str(FIRST_DAY), str(last), catalogue=catalogue)
        assert result.success
        with duckdb.connect(analytics.duckdb_path, read_only=True) as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM dixa_records.{RECORD}").fetchall()
        return int(rows[0])

    return measured(load_all, profiled=profiled)


def fetch_and_discard(url: str, days: int, days_at_once: int) -> dict[str, Any]:
    """The same pages with httpx, decoded with json: the least that a load can take."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    def rows_of(day: int) -> int:
        return sum(map(len, pages_of(client, day)))

    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(days_at_once) as pool:
        return measured(lambda: sum(pool.map(rows_of, range(days))))


def load_with_duckdb(url: str, days: int, folder: str) -> dict[str, Any]:
    """The same rows from a file of JSON, by DuckDB alone, in one thread."""
    import duckdb
    import httpx

    file = Path(folder) / "rows.jsonl"
    with httpx.Client(base_url=url, timeout=60) as client, file.open("w") as lines:
        for day in range(days):
            for page in pages_of(client, day):
                lines.writelines(json.dumps(flattened(row)) + "\n" for row in page)

    # As `LOW_MEMORY` of the warehouse, whose import would add its own memory.
    low_memory = {"threads": 1, "write_buffer_row_group_count": 1}

    def load_all() -> int:
        with duckdb.connect(f"{folder}/alone.duckdb", config=low_memory) as connection:
            # DuckDB guesses the types, from the first rows.
            connection.execute(f"CREATE TABLE rows AS FROM read_json('{file}')")
            (rows,) = connection.execute("SELECT count(*) FROM rows").fetchall()
        return int(rows[0])

    return measured(load_all)


def pages_of(client: Any, day: int) -> Iterator[list[Any]]:
    """The pages of a day, decoded."""
    link = f"{PATH}?pageLimit=300"
    while link:
        page = json.loads(client.post(link, json=query(day, 1)).content)
        yield page["data"]
        link = page["meta"].get("next")


def load_with_dlt(url: str, days: int, folder: str) -> dict[str, Any]:
    """The same rows through dlt's source, paginator and destination, as its documentation says.

    A processing step makes a column of each field, as ours have; lists stay JSON. Without it dlt
    makes a child table of the fields and another of the tags, and takes three to four times as
    long.
    """
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    import duckdb
    from dlt.sources.rest_api import rest_api_source

    endpoint = {
        "path": PATH,
        "method": "POST",
        "params": {"pageLimit": 300},
        "json": query(0, days),
        "data_selector": "data",
        "paginator": {"type": "json_link", "next_url_path": "meta.next"},
    }
    steps = [{"map": flattened}]
    config: Any = {
        "client": {"base_url": url},
        "resources": [{"name": RECORD, "processing_steps": steps, "endpoint": endpoint}],
    }
    database = f"{folder}/dlt.duckdb"
    pipeline = dlt.pipeline(
        RECORD,
        pipelines_dir=f"{folder}/dlt",
        destination=dlt.destinations.duckdb(database),
        dataset_name="records",
    )

    def load_all() -> int:
        pipeline.run(rest_api_source(config, max_table_nesting=0)).raise_on_failed_jobs()
        with duckdb.connect(database, read_only=True) as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM records.{RECORD}").fetchall()
        return int(rows[0])

    return measured(load_all)


def flattened(row: dict[str, Any]) -> dict[str, Any]:
    """The instant, and value and label of each field."""
    flat = {"primary_timestamp": row["primaryTimestampField"]["timestamp"]}
    for item in row["fields"]:
        name, field = item["name"], item.get("field", {})
        flat[name] = field.get("values", field.get("value"))
        if "label" in field:
            flat[f"{name}_label"] = field["label"]
    return flat


def query(first: int, days: int) -> dict[str, Any]:
    """The body that requests some days, counted from the first."""
    start, end = (FIRST_DAY + timedelta(days=number) for number in (first, first + days - 1))
    period = {
        "_type": "Interval",
        "start": f"{start}T00:00:00.000Z",
        "end": f"{end}T23:59:59.999Z",
    }
    return {"id": RECORD, "periodFilter": period, "timezone": "UTC"}


def import_seconds() -> tuple[float, float]:
    """How long the imports of a code location take: Dagster's, then this project's."""
    began = time.perf_counter()
    import dagster as dg  # noqa: F401

    between = time.perf_counter()
    import dixa_assets.component  # noqa: F401

    return between - began, time.perf_counter() - between


def measured(load_all: Callable[[], int], *, profiled: bool = False) -> dict[str, Any]:
    """Run a load: rows, seconds, processor seconds, by function as well, peak memory."""
    sampler = Sampler() if profiled else None
    began, processor = time.perf_counter(), time.process_time()
    rows = load_all()
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return {
        "rows": rows,
        "seconds": seconds,
        "processor": processor,
        "memory": peak_memory(),
        "spent": sampler.stop() if sampler else {},
    }


def peak_memory() -> int:
    """The most memory this process had, in bytes."""
    try:
        # getrusage would include what the parent had when it forked.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Sampler:
    """Counts the processor time of this process by function, from its construction to `stop`.

    A hundred times a second it reads what each thread has used from Linux's /proc, and counts it
    for the innermost function of the project on the thread's stack. Threads without Python are
    DuckDB's.
    """

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._seen: dict[int, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._look()
        self._spent.clear()
        # The sampler's turn must come at any bytecode, not only when a thread waits for I/O.
        sys.setswitchinterval(SAMPLE_SECONDS / 100)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """Nanoseconds by function, the largest first."""
        self._stopping.set()
        self._thread.join()
        self._look()
        return dict(self._spent.most_common())

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        frames = sys._current_frames()
        idents = {thread.native_id: thread.ident for thread in threading.enumerate()}
        for task in Path("/proc/self/task").iterdir():
            try:
                nanoseconds = int((task / "schedstat").read_text().split()[0])
            except OSError:
                # The thread has ended.
                continue
            spent = nanoseconds - self._seen.get(int(task.name), 0)
            self._seen[int(task.name)] = nanoseconds
            ident = idents.get(int(task.name))
            if spent and ident != self._thread.ident:
                self._spent[_function(frames.get(ident)) if ident else "DuckDB's threads"] += spent


def _function(frame: FrameType | None) -> str:
    """The innermost function of the project on a stack."""
    while frame:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("dixa_assets."):
            return f"{module.partition('.')[2]}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "Dagster"
