"""Record rows per second from HTTP to a committed DuckDB, their memory, and where the time goes.

Every contestant loads from a server without a rate limit, in a process of its own: the time is that
of the load alone, without imports and catalogue; the memory is the most the process ever had.
Run as `python -m dixa_assets_tests.bench.throughput` it measures all of it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from dixa_assets.api.requests import Request
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.days import MILLISECOND, Window
from dixa_assets_tests.bench.vendor import PAGE_LIMIT, RECORD, ZONE, running_vendor

# This module by its name, also when it is run.
MODULE = "dixa_assets_tests.bench.throughput"
ROWS = 1_000_000
DAYS = 10
KEY = "a-key-for-the-bench"
# dlt would need minutes for a million, and more rows do not make it faster.
DLT_ROWS = 100_000
FIRST_DAY = date(2025, 3, 3)
# As many days as ours fetches side by side.
CHAINS = 6
SAMPLE_SECONDS = 0.01
PATH = "/v1/analytics/records"


@dataclass(frozen=True)
class Loaded:
    """What one process did: rows, seconds of the load alone and of its processor time, peak memory.

    Memory is in bytes.
    """

    rows: int
    seconds: float
    processor_seconds: float
    memory: int
    # What the processor time of the load went into, and the share of each, largest first.
    profile: tuple[tuple[str, float], ...] = ()

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Throughput:
    """The contestants of one measurement, each at its best.

    `floor` fetches the same pages with httpx, decodes them with json and throws them away.
    """

    ours: Loaded
    floor: Loaded
    dlt: Loaded

    @property
    def of_floor(self) -> float:
        """Our rate as a share of the floor's."""
        return self.ours.rate / self.floor.rate

    @property
    def times_dlt(self) -> float:
        """Our rate as a multiple of dlt's."""
        return self.ours.rate / self.dlt.rate


@dataclass(frozen=True)
class Memory:
    """Two loads of one day each, with more and with fewer rows."""

    large: Loaded
    small: Loaded

    @property
    def ratio(self) -> float:
        """Peak memory with more rows over that with fewer."""
        return self.large.memory / self.small.memory


def measure_throughput(
    folder: Path, rows: int = ROWS, *, days: int = DAYS, dlt_rows: int = DLT_ROWS, times: int = 3
) -> Throughput:
    """Load the same rows with all contestants in turn, several times, and take each one's best.

    Args:
        folder: For databases; each is removed when its rows are counted.
        rows: How many rows ours and the floor load.
        days: The local days they lie in.
        dlt_rows: How many of these rows, from the first on, dlt loads.
        times: How often ours and the floor do it, by turns: a machine is slower at times, never
            faster. dlt does it once.
    """
    per_day = rows // days
    dlt_days = max(dlt_rows // per_day, 1)
    found: dict[str, list[Loaded]] = {contestant: [] for contestant in CONTESTANTS}
    with running_vendor(per_day) as vendor:
        for turn in range(times):
            for contestant, loads in found.items():
                if contestant == "dlt" and turn:
                    continue
                span = dlt_days if contestant == "dlt" else days
                loads.append(run(contestant, vendor.url, folder, days=span, rows=per_day * span))
    best = {
        contestant: max(loads, key=lambda loaded: loaded.rate)
        for contestant, loads in found.items()
    }
    return Throughput(
        ours=best["ours"],
        floor=max(best["floor"], best["floor side by side"], key=lambda loaded: loaded.rate),
        dlt=best["dlt"],
    )


def measure_memory(folder: Path, large: int = ROWS, small: int = 100_000) -> Memory:
    """Load one day with many rows, and the same day with fewer."""
    found = []
    for rows in (large, small):
        with running_vendor(rows) as vendor:
            found.append(run("ours", vendor.url, folder, days=1, rows=rows))
    return Memory(*found)


def measure_profile(
    folder: Path, rows: int = ROWS, *, days: int = DAYS
) -> tuple[tuple[str, float], ...]:
    """What our load's processor time goes into, and the share of each, largest first."""
    with running_vendor(rows // days) as vendor:
        return run("ours", vendor.url, folder, days=days, rows=rows, profile=True).profile


def run(
    contestant: str, url: str, folder: Path, *, days: int, rows: int, profile: bool = False
) -> Loaded:
    """One contestant in a process of its own; it must have loaded exactly these rows."""
    command = [sys.executable, "-m", MODULE, "--worker", contestant, "--url", url]
    command += ["--days", str(days), *(["--profile"] if profile else [])]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        done = subprocess.run(
            [*command, "--folder", work], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    loaded = Loaded(**said | {"profile": tuple(map(tuple, said["profile"]))})
    assert loaded.rows == rows, f"{contestant} loaded {loaded.rows} rows of {rows}"
    return loaded


# What runs in the contestants' processes: each prepares itself, then returns the load, which
# returns the number of rows.

Prepare = Callable[[str, int, Path], Callable[[], int]]


def _ours(url: str, days: int, folder: Path) -> Callable[[], int]:
    # Here, so that the others' processes stay as small as they would be without this project.
    import duckdb

    from dixa_assets_tests.support.scenario import component, fetched, load
    from dixa_assets_tests.support.simulator import Simulator

    simulator = Simulator(url)
    analytics = component(simulator, folder)
    catalogue = fetched(analytics)
    last = FIRST_DAY + timedelta(days=days - 1)

    def load_all() -> int:
        keys = [f"dixa_records/{RECORD}"]
        result = load(analytics, keys, FIRST_DAY.isoformat(), last.isoformat(), catalogue=catalogue)
        assert result.success
        with duckdb.connect(analytics.duckdb_path, read_only=True) as connection:
            found = connection.execute(f"SELECT count(*) FROM dixa_records.{RECORD}").fetchone()
        assert found
        return int(found[0])

    return load_all


def _dlt(url: str, days: int, folder: Path) -> Callable[[], int]:
    from dixa_assets_tests.bench import dlt_pipeline

    def load_all() -> int:
        dlt_pipeline.load(url, _query(0, days), KEY, folder)
        return dlt_pipeline.rows_in(folder)

    return load_all


def _floor(chains: int) -> Prepare:
    """Fetch and decode the days' pages, so many days at once; one page of a day after another."""

    def prepare(url: str, days: int, folder: Path) -> Callable[[], int]:
        def fetch_all() -> int:
            with (
                httpx.Client(base_url=url, timeout=60) as client,
                ThreadPoolExecutor(chains) as pool,
            ):
                return sum(pool.map(lambda day: _discard_pages(client, _query(day)), range(days)))

        return fetch_all

    return prepare


def _discard_pages(client: httpx.Client, query: Mapping[str, Any]) -> int:
    headers, rows = {"Authorization": KEY}, 0
    link: str | None = f"{PATH}?pageLimit={PAGE_LIMIT}"
    while link:
        page = json.loads(client.post(link, json=query, headers=headers).content)
        rows += len(page["data"])
        link = page["meta"].get("next")
    return rows


def _query(first: int, days: int = 1) -> dict[str, Any]:
    """The body that asks for some local days, counted from the first."""
    windows = [
        Window.of_day(FIRST_DAY + timedelta(days=first + number), ZONE) for number in range(days)
    ]
    # Of a row exactly on the end, which belongs to the day after, nothing is asked.
    period = Window(windows[0].day, windows[0].start, windows[-1].end - MILLISECOND, ZONE)
    return Request(Entry("record", RECORD, RECORD)).body(period)


CONTESTANTS: dict[str, Prepare] = {
    "ours": _ours,
    "floor": _floor(1),
    "floor side by side": _floor(CHAINS),
    "dlt": _dlt,
}


class Sampler:
    """Attributes the processor time of this process to what its threads were running.

    Many times a second, what each thread has used since the last look is counted for the function
    it is in: the innermost one of the project, so that what a library does counts for whoever
    called it. Threads without Python are the database's. Reads Linux's /proc.
    """

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._seen: dict[int, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample for as long as the context lasts."""
        self._look()
        self._spent.clear()
        # The sampler must get its turn at any bytecode, not only where a thread waits for I/O.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SAMPLE_SECONDS / 100)
        self._thread.start()
        try:
            yield
        finally:
            sys.setswitchinterval(interval)
            self._stopping.set()
            self._thread.join()
            self._look()

    def shares(self) -> list[tuple[str, float]]:
        """What the time went into, and the share of each, largest first."""
        total = self._spent.total()
        return [(what, spent / total) for what, spent in self._spent.most_common()]

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
                continue
            native_id = int(task.name)
            spent = nanoseconds - self._seen.get(native_id, 0)
            self._seen[native_id] = nanoseconds
            ident = idents.get(native_id)
            if not spent or ident == self._thread.ident:
                continue
            self._spent[_describe(frames.get(ident)) if ident else "DuckDB's threads"] += spent


def _describe(frame: FrameType | None) -> str:
    """The function of the project that a thread is in."""
    while frame:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("dixa_assets."):
            return f"{module.partition('.')[2]}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "Dagster around it"


def work(options: argparse.Namespace) -> Loaded:
    """Do in this process what `run` asked for."""
    load_all = CONTESTANTS[options.worker](options.url, options.days, options.folder)
    sampler = Sampler()
    with sampler.sampling() if options.profile else nullcontext():
        began, began_processor = time.perf_counter(), time.process_time()
        rows = load_all()
        seconds = time.perf_counter() - began
        processor_seconds = time.process_time() - began_processor
    profile = tuple(sampler.shares()) if options.profile else ()
    return Loaded(rows, seconds, processor_seconds, peak_memory(), profile)


def peak_memory() -> int:
    """The most memory this process had, in bytes."""
    try:
        # Where Linux says it: getrusage would count what the parent had when it forked.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench.throughput")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(asdict(work(options))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed = measure_throughput(folder, options.rows, days=options.days, times=options.times)
        for what in asdict(speed):
            loaded = getattr(speed, what)
            print(
                f"{what:6} {loaded.rate:8,.0f} rows/s, {loaded.memory / 2**20:5.0f} MiB, "
                f"{loaded.processor_seconds / loaded.rows * 1e6:6.1f} us of processor time per row"
            )
        print(f"ours is {speed.of_floor:.2f} of the floor and {speed.times_dlt:.1f} times dlt")
        memory = measure_memory(folder, options.rows, options.rows // 10)
        for loaded in (memory.large, memory.small):
            print(f"{loaded.rows:9,} rows in a day: {loaded.memory / 2**20:5.0f} MiB")
        for what, share in measure_profile(folder, options.rows, days=options.days)[:15]:
            print(f"{share:6.1%} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
