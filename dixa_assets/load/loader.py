"""Days of metrics and records, from the API into the warehouse.

How a request is sent is in `api`, how rows are written in `warehouse`.
"""

import gc
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract, extract_filter_values, extract_span
from dixa_assets.api.requests import Request, build_request
from dixa_assets.errors import ApiError, DaysFailed, DixaAssetsError, PeriodUncertain
from dixa_assets.load.progress import LoadedDay, LoadedTable
from dixa_assets.model.counts import Usage
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.model.tables import PERIOD_VALUES, Relation, Table
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)

# After this many failed days, the rest of the asset's days are not requested.
FAILED_DAYS_BEFORE_STOPPING = 5
# An answer with one of these statuses means that every other day would get the same.
HOPELESS_STATUS = frozenset({401, 403, 404})
# Objects created between two garbage collections: more than all pages in memory have.
OBJECTS_PER_COLLECTION = 100_000
# Limits on days that are fetched or wait to be written, for all assets together: their number and
# their bytes on disk. They keep the API busy while Dagster runs several short steps.
MOST_DAYS_AHEAD = 120
MOST_BYTES_AHEAD = 256 * 2**20
# Days per thread that are being fetched or wait for the thread.
DAYS_PER_THREAD = 2
# Fetched days are written in one transaction while they have fewer rows than this.
ROWS_PER_WRITE = 10_000
# A day that is requested in more parts than this fails.
MOST_PARTS = 2000


@dataclass(frozen=True, slots=True)
class Task:
    """Days of one metric or record to load."""

    spec: LoadSpec
    days: Sequence[Day]


class Loader:
    """Loads the assets of a run.

    `load` takes one asset's days in order; threads fetch them, and the days of the next assets,
    ahead of the writes. Each day is requested alone and staged in a file. If its rows may be
    incomplete, smaller parts of it are requested. Fetched days are written in order, a few
    small ones per transaction. A day that fails is left as it was, and the other days are loaded.

    Args:
        connect: Opens a client when the first request is sent; closed with the loader.
        warehouse: Stores the rows.
        threads: Requests in flight at most.
    """

    def __init__(
        self, connect: Callable[[], DixaClient], warehouse: Warehouse, *, threads: int
    ) -> None:
        self._connect = connect
        self.warehouse = warehouse
        self._most_in_flight = DAYS_PER_THREAD * threads
        # The current task, then the next ones. The lock guards the tasks, the queues and their
        # contents: fetching threads and the writing thread change them.
        self._tasks: list[Task] = []
        self._queues: dict[str, _Queue] = {}
        self._lock = threading.RLock()
        self._resources = ExitStack()
        self._resources.enter_context(_rare_garbage_collection())
        self._file_numbers = itertools.count()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dixa")

    @cached_property
    def _client(self) -> DixaClient:
        return self._connect()

    @cached_property
    def _folder(self) -> Path:
        return self._resources.enter_context(self.warehouse.staging())

    def close(self) -> None:
        """Stop fetching, discard rows that are not written, close the client."""
        if "_client" in vars(self):
            self._client.close()
        with self._lock:
            self._tasks = []
            for queue in self._queues.values():
                queue.discard()
        self._pool.shutdown(cancel_futures=True)
        self._resources.close()

    def load(
        self, task: Task, *, run_id: str, upcoming: Iterable[Task] = ()
    ) -> Iterator[LoadedDay]:
        """Load the days of a task in order, each as a partition of its own.

        Args:
            task: What to load.
            run_id: Stored with every row.
            upcoming: The tasks that will be loaded next.

        Raises:
            DaysFailed: After all other days, with the error of each failed day.
        """
        with self._lock:
            self._tasks = [task, *upcoming]
            queue = self._queue(task)
        try:
            self._fetch_ahead()
            # A request that cannot be built is one error, not one per day.
            queue.request.result()
            for fetched in self._fetched(queue):
                yield from self._write(queue, fetched, run_id)
        finally:
            with self._lock:
                self._tasks = [other for other in self._tasks if other is not task]
                self._queues.pop(task.spec.entry.key).discard()
        if queue.failed:
            raise DaysFailed(queue.failed, asked=len(task.days), untried=len(queue.days))

    def load_filter_values(self, attribute: str, relation: Relation, *, run_id: str) -> LoadedTable:
        """Replace the table of a filter attribute by the values that Dixa offers now."""
        return self._load_whole(
            relation, partial(extract_filter_values, self._client, attribute), run_id
        )

    def load_rows(
        self, relation: Relation, rows: Sequence[Mapping[str, Any]], *, run_id: str
    ) -> LoadedTable:
        """Replace a whole table by the given rows."""
        return self._load_whole(relation, lambda staged: [*map(staged.add_row, rows)], run_id)

    def _load_whole(
        self, relation: Relation, fill: Callable[[Staged], Any], run_id: str
    ) -> LoadedTable:
        started = time.monotonic()
        with self._new_file(relation.stored_in) as staged:
            fill(staged)
            self.warehouse.replace(relation, [Load(run_id, started, [staged])])
            return LoadedTable(staged.rows, staged.usage, time.monotonic() - started)

    def _queue(self, task: Task) -> "_Queue":
        key = task.spec.entry.key
        if key not in self._queues:
            request = self._pool.submit(build_request, self._client, task.spec)
            self._queues[key] = _Queue(task, request)
        return self._queues[key]

    def _fetch_ahead(self) -> None:
        """Request days of the current task, then of the next ones, up to the limits."""
        with self._lock:
            for task in self._tasks:
                queue = self._queue(task)
                while queue.can_request():
                    # The writing thread waits for the current task, so it always has a request.
                    is_awaited = task is self._tasks[0] and not queue.pending
                    if self._is_saturated() and not is_awaited:
                        return
                    self._request(queue)

    def _is_saturated(self) -> bool:
        """True if no further day should be requested now."""
        pending = [*itertools.chain(*(queue.pending for queue in self._queues.values()))]
        return (
            sum(not fetch.future.done() for fetch in pending) >= self._most_in_flight
            or len(pending) >= MOST_DAYS_AHEAD
            or sum(fetch.bytes for fetch in pending) >= MOST_BYTES_AHEAD
        )

    def _request(self, queue: "_Queue") -> None:
        fetch = _Fetch(queue.days.popleft())
        fetch.future = self._pool.submit(self._fetch, queue, fetch, self._folder)
        queue.pending.append(fetch)
        fetch.future.add_done_callback(self._when_fetched)

    def _when_fetched(self, _: Future[list[Staged]]) -> None:
        # An error in the request of a next task is raised when that task is loaded.
        with suppress(DixaAssetsError):
            self._fetch_ahead()

    def _fetch(self, queue: "_Queue", fetch: "_Fetch", folder: Path) -> list[Staged]:
        request = queue.request.result()
        fetch.started = time.monotonic()
        staged = self._stage(request, fetch.day, folder)
        fetch.seconds = time.monotonic() - fetch.started
        return staged

    def _stage(self, request: Request, day: Day, folder: Path) -> list[Staged]:
        """Stage a day in one file, or in one per part if its rows are uncertain.

        Each week or month that ends with the day has a file too.
        """
        files: list[Staged] = []
        spent = Usage()
        periods = deque([day.period])
        try:
            while periods:
                period = periods.popleft()
                files.append(self._new_file(request.spec.relation.stored_in, folder))
                try:
                    extract(self._client, request, day, files[-1], period)
                    files[-1].close()
                except PeriodUncertain as error:
                    if period.is_shortest or len(files) + len(periods) > MOST_PARTS:
                        raise
                    logger.warning("%s The period is requested again in smaller parts.", error)
                    periods.extendleft(reversed(period.split(error.first, error.last)))
                    uncertain = files.pop()
                    uncertain.discard()
                    spent += uncertain.usage
            for span in request.spec.spans_ending(day):
                files.append(self._new_file(PERIOD_VALUES, folder))
                extract_span(self._client, request, day, files[-1], span)
                files[-1].close()
        except BaseException:
            for file in files:
                file.discard()
            raise
        files[0].usage += spent
        return files

    def _new_file(self, table: Table, folder: Path | None = None) -> Staged:
        return Staged((folder or self._folder) / f"{next(self._file_numbers)}", table)

    def _fetched(self, queue: "_Queue") -> Iterator[list["_Fetch"]]:
        """Days in order as their answers arrive; several if writing is slower than fetching."""
        while queue.pending:
            ready: list[_Fetch] = []
            ended = 0
            for fetch in [*queue.pending]:
                rows = sum(each.rows for each in ready)
                if ready and (rows >= ROWS_PER_WRITE or not fetch.future.done()):
                    break
                ended += 1
                if error := fetch.wait():
                    with self._lock:
                        queue.failed[str(fetch.day)] = error
                else:
                    ready.append(fetch)
            # Days count as pending until here, so that the limits hold.
            with self._lock:
                for _ in range(ended):
                    queue.pending.popleft()
            self._fetch_ahead()
            if ready:
                yield ready

    def _write(
        self, queue: "_Queue", ready: Sequence["_Fetch"], run_id: str
    ) -> Iterator[LoadedDay]:
        request = queue.request.result()
        loads = [
            Load(
                run_id,
                # Waiting for the write is not part of a day's load.
                time.monotonic() - fetch.seconds,
                fetch.parts,
                fetch.day,
                request.filters,
                tuple(request.breakdowns),
                [span.name for span in request.spec.spans_ending(fetch.day)],
            )
            for fetch in ready
        ]
        written = self.warehouse.replace(request.spec.relation, loads)
        ended = time.monotonic()
        for number, (fetch, load) in enumerate(zip(ready, loads, strict=True)):
            fetch.discard()
            yield LoadedDay(
                fetch.day,
                load.counts,
                load.usage,
                fetch.parts[0].totals,
                written.schema_changes if number == 0 else (),
                written.columns,
                ended - load.started,
                written.preview,
            )


class _Queue:
    """A task in progress: days to request, pending days in order, failed days."""

    def __init__(self, task: Task, request: Future[Request]) -> None:
        self.request = request
        self.days = deque(task.days)
        self.pending: deque[_Fetch] = deque()
        self.failed: dict[str, DixaAssetsError] = {}

    def can_request(self) -> bool:
        """True if days are left and no error has to be handled first."""
        return (
            bool(self.days)
            and not _is_hopeless(self.failed.values())
            and not any(fetch.has_failed() for fetch in self.pending)
        )

    def discard(self) -> None:
        """Cancel requests and remove files that will not be written."""
        for fetch in self.pending:
            if not fetch.future.cancel():
                fetch.discard()


class _Fetch:
    """A day in flight, then its staged rows: one file, or several if the API truncated it."""

    future: Future[list[Staged]]

    def __init__(self, day: Day) -> None:
        self.day = day
        self.started = self.seconds = 0.0
        self.parts: list[Staged] = []

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """Size of the staged files; 0 while the day is in flight."""
        is_staged = self.future.done() and not self.has_failed()
        return sum(part.bytes for part in self.future.result()) if is_staged else 0

    def has_failed(self) -> bool:
        return self.future.done() and _error_of(self.future) is not None

    def wait(self) -> DixaAssetsError | None:
        """Wait for the day; its error, if it failed."""
        try:
            self.parts = self.future.result()
        except DixaAssetsError as error:
            return error
        return None

    def discard(self) -> None:
        """Remove the staged files, as soon as they are there."""
        self.future.add_done_callback(_discard)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Make Python collect cyclic garbage every 100,000 new objects.

    A page is about ten thousand objects without cycles. By default Python collects every 700
    objects and sometimes scans all of Dagster's: a quarter of a load's time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(OBJECTS_PER_COLLECTION, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _error_of(ended: Future[Any]) -> BaseException | None:
    return CancelledError() if ended.cancelled() else ended.exception()


def _discard(future: Future[list[Staged]]) -> None:
    if not _error_of(future):
        for staged in future.result():
            staged.discard()


def _is_hopeless(failed: Collection[DixaAssetsError]) -> bool:
    return len(failed) >= FAILED_DAYS_BEFORE_STOPPING or any(
        isinstance(error, ApiError) and error.status in HOPELESS_STATUS for error in failed
    )
