"""Days of assets, from the API into the warehouse: fetched ahead side by side, written in order.

No Dagster: whoever iterates reports each day as it comes.
"""

import gc
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pandas as pd

from dixa_assets.client import DixaClient, Usage
from dixa_assets.errors import ApiError, DaysFailed, DixaAssetsError
from dixa_assets.extract import Query, Window, extract_metric, extract_record
from dixa_assets.plan import Ask, Volume, next_ask
from dixa_assets.schema import METRIC_VALUES, Column, Table
from dixa_assets.staging import Counts, Staged
from dixa_assets.warehouse import Load, Warehouse

logger = logging.getLogger(__name__)

# A day that fails does not keep the others from loading; this many say that the next will too.
FAILED_DAYS_BEFORE_STOPPING = 5
# These say the same of every other day at once.
HOPELESS_STATUS = frozenset({401, 403, 404})
SECONDS_BETWEEN_LINES = 5.0
# More than the pages in hand at once have.
YOUNG_OBJECTS = 100_000
# Windows that may be on their way or waiting to be written, of all assets together: so many that
# the API has work for the seconds in which Dagster takes several steps of one request each.
READ_AHEAD = 120
# Days that wait to be written go into one transaction while they have fewer rows than this.
ROWS_A_WRITE = 10_000


@dataclass(frozen=True, slots=True)
class Job:
    """What one asset is to load: its key (`schema/relation`), table or view, query and days."""

    key: str
    table: Table
    is_metric: bool
    build_query: Callable[[DixaClient], Query]
    days: Sequence[Window]


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """A day that is in the warehouse: what was asked, what came, what was written.

    Days fetched together share their requests; the first of them has them all. `totals` are a
    metric's values by measure, `preview` a few rows of what was written with the day.
    """

    window: Window
    counts: Counts
    usage: Usage
    totals: Mapping[str, float]
    schema_changes: Sequence[str]
    columns: Sequence[Column]
    seconds: float
    together: int
    preview: pd.DataFrame


class Progress:
    """How far a load is, in lines at a rate a person can read.

    Args:
        days: How many there are to load.
    """

    def __init__(self, days: int) -> None:
        self._days = days
        self._done = 0
        self._rows = 0
        self._usage = Usage()
        self._began = self._said = time.monotonic()

    def line(self, day: LoadedDay) -> str | None:
        """What to say after a day; None when the last line is not yet a few seconds old."""
        self._done += 1
        self._rows += day.counts.rows
        self._usage += day.usage
        now = time.monotonic()
        if 1 < self._done < self._days and now < self._said + SECONDS_BETWEEN_LINES:
            return None
        self._said = now
        left = (now - self._began) / self._done * (self._days - self._done)
        return (
            f"{day.window.day} ({day.window.hours:g} h): {day.counts.rows:,} rows. "
            f"{self._done} of {self._days} days, {self._rows:,} rows, "
            f"{self._usage.requests} requests, {self._usage.retries} of them repeats, "
            f"{self._usage.seconds_waiting:.0f} s waited for the rate limit"
            # One day tells little: those fetched with it are there too.
            + (f"; about {left:.0f} s left" if left and self._done > 1 else "")
        )


class Loader:
    """Loads assets one after the other, fetching the first days of the next in good time.

    Made for all steps of a run: while the last days of an asset are written, checked and reported,
    those of the next are on their way, and the API is never idle.

    Args:
        client: Closed with the loader.
        warehouse: Where the rows go.
        at_a_time: How many windows are fetched side by side.
    """

    def __init__(self, client: DixaClient, warehouse: Warehouse, *, at_a_time: int) -> None:
        self.warehouse = warehouse
        self.client = client
        self._at_a_time = at_a_time
        self._feeds: dict[str, _Feed] = {}
        self._resources = ExitStack()
        self._resources.enter_context(_rare_garbage_collection())
        self._folder = self._resources.enter_context(warehouse.staging())
        self._volumes = warehouse.volumes()
        self._numbers = itertools.count()
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="dixa")

    def close(self) -> None:
        """Stop fetching, forget what was not written, close the client."""
        self.client.close()
        for feed in self._feeds.values():
            feed.abandon()
        self._pool.shutdown(cancel_futures=True)
        self._resources.close()

    def load(self, job: Job, *, run_id: str, upcoming: Iterable[Job] = ()) -> Iterator[LoadedDay]:
        """Load the days of a job, in order, each a partition of its own.

        Args:
            job: What to load.
            run_id: Noted with every row.
            upcoming: What will be loaded next.

        Raises:
            DaysFailed: After all other days, with the error of each day that failed.
        """
        feed, following = self._feed(job), list(upcoming)
        try:
            self._fetch_ahead(feed, following)
            # A query that cannot be is one error, not one for every day.
            feed.query.result()
            for ready in self._fetched(feed, following):
                yield from self._write(feed, ready, run_id)
        finally:
            self._feeds.pop(job.key).abandon()
        if feed.failed:
            raise DaysFailed(feed.failed, asked=len(job.days), untried=len(feed.waiting))

    def _fetched(self, feed: "_Feed", upcoming: Sequence[Job]) -> Iterator[list["_Fetch"]]:
        """What has come, in order; more than one when writing was slower than fetching."""
        while feed.running:
            ready: list[_Fetch] = []
            while feed.running and (
                not ready
                or (feed.running[0].is_done() and sum(one.rows for one in ready) < ROWS_A_WRITE)
            ):
                fetch = feed.running.popleft()
                try:
                    fetch.wait()
                except DixaAssetsError as error:
                    fetch.discard()
                    feed.fail(fetch.ask, error)
                else:
                    ready.append(fetch)
            self._fetch_ahead(feed, upcoming)
            if ready:
                yield ready

    def _write(self, feed: "_Feed", ready: Sequence["_Fetch"], run_id: str) -> Iterator[LoadedDay]:
        query, table = feed.query.result(), feed.job.table
        loads = [
            Load(
                run_id,
                # What was fetched ahead has waited to be written: none of its own time.
                time.monotonic() - fetch.seconds,
                fetch.parts,
                fetch.ask.days,
                query.filters,
                tuple(query.breakdowns),
            )
            for fetch in ready
        ]
        view = table if feed.job.is_metric else None
        written = self.warehouse.replace(loads, view=view, metric=query.entry.id if view else None)
        ended = time.monotonic()
        for number, fetch in enumerate(ready):
            fetch.discard()
            feed.volume.days += len(fetch.ask.days)
            feed.volume.rows += fetch.rows
            for day, counts, usage in loads[number].by_day():
                feed.volume.astray |= counts.outside_window > 0
                yield LoadedDay(
                    day,
                    counts,
                    usage,
                    fetch.parts[0].totals,
                    written.schema_changes if number == 0 else (),
                    written.columns,
                    ended - loads[number].started,
                    len(fetch.ask.days),
                    written.preview,
                )

    def _feed(self, job: Job) -> "_Feed":
        if job.key not in self._feeds:
            self._feeds[job.key] = _Feed(
                job,
                self._pool.submit(job.build_query, self.client),
                self._volumes.get(job.key, Volume()),
            )
        return self._feeds[job.key]

    def _fetch_ahead(self, feed: "_Feed", upcoming: Iterable[Job]) -> None:
        """Keep so many windows on their way that no thread waits for the one who writes."""
        for each in itertools.chain([feed], map(self._feed, upcoming)):
            while each.waiting and not _is_hopeless(each.failed.values()):
                if sum(len(one.running) for one in self._feeds.values()) >= READ_AHEAD:
                    return
                if len(each.running) >= 2 * self._at_a_time:
                    break
                each.running.append(self._start(each))

    def _start(self, feed: "_Feed") -> "_Fetch":
        if feed.job.is_metric:
            day = feed.waiting.popleft()
            ask = Ask((day,), (day,))
        else:
            ask = next_ask(
                feed.waiting,
                feed.volume,
                page_rows=self.client.page_size,
                most_parts=self._at_a_time,
            )
        fetch = _Fetch(ask)
        fetch.futures = [
            self._pool.submit(self._stage, feed, fetch, window) for window in ask.windows
        ]
        return fetch

    def _stage(self, feed: "_Feed", fetch: "_Fetch", window: Window) -> Staged:
        query, is_metric = feed.query.result(), feed.job.is_metric
        fetch.started = fetch.started or time.monotonic()
        path = self._folder / f"{next(self._numbers)}"
        staged = Staged(path, METRIC_VALUES if is_metric else feed.job.table)
        try:
            if is_metric:
                extract_metric(self.client, query, window, staged)
            else:
                extract_record(self.client, query, window, staged, fetch.ask.days)
            staged.close()
        except BaseException:
            staged.discard()
            raise
        fetch.ended = time.monotonic()
        return staged


class _Feed:
    """A job on its way: days not yet asked for, fetches under way, days that failed."""

    def __init__(self, job: Job, query: Future[Query], volume: Volume) -> None:
        self.job = job
        self.query = query
        self.volume = volume
        self.waiting = deque(job.days)
        self.running: deque[_Fetch] = deque()
        self.failed: dict[str, DixaAssetsError] = {}

    def fail(self, ask: Ask, error: DixaAssetsError) -> None:
        """Try days that were asked for together one by one; note that a day alone has failed."""
        if len(ask.days) == 1 or _is_hopeless([error]):
            self.failed.update({day.day.isoformat(): error for day in ask.days})
            return
        self.volume.astray = True
        self.waiting.extendleft(reversed(ask.days))
        logger.warning(
            "%s: %d days could not be fetched together, so each is asked for alone. %s",
            self.job.key,
            len(ask.days),
            error,
        )

    def abandon(self) -> None:
        """Forget what nobody will write."""
        for fetch in self.running:
            for future in fetch.futures:
                if not future.cancel():
                    future.add_done_callback(_discard)


class _Fetch:
    """Days on their way, and then their rows."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.started = self.ended = 0.0
        self.futures: list[Future[Staged]] = []
        self.parts: list[Staged] = []

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return self.ended - self.started

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def wait(self) -> None:
        """Return when all parts have come; raise the error of the first that did not."""
        self.parts = [future.result() for future in self.futures]

    def discard(self) -> None:
        for future in self.futures:
            future.add_done_callback(_discard)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Look for cyclic garbage only when there could be plenty.

    A page is some ten thousand objects, none of them in a cycle. Python's default is to look after
    every 700 of them, and time and again through all of Dagster: a quarter of a load's time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _discard(future: Future[Staged]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().discard()


def _is_hopeless(failed: Collection[DixaAssetsError]) -> bool:
    return len(failed) >= FAILED_DAYS_BEFORE_STOPPING or any(
        isinstance(error, ApiError) and error.status in HOPELESS_STATUS for error in failed
    )
