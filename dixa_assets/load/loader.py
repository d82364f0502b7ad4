"""Days of metrics and records, from the API into the warehouse.

An *entry* is a metric or record of the catalogue.
How a request is sent is in `api`, how rows are written in `warehouse`.
"""

import gc
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract, extract_filter_values, extract_span
from dixa_assets.api.requests import Request, build_request
from dixa_assets.errors import DaysFailed, DixaAssetsError, ErasedMeanwhile, PeriodUncertain
from dixa_assets.load.progress import LoadedDay, LoadedTable
from dixa_assets.load.queue import PendingDay, Queue, Task
from dixa_assets.model.counts import Usage
from dixa_assets.model.days import Day
from dixa_assets.model.tables import PERIOD_VALUES, Relation, Table
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Load
from dixa_assets.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)

# Collect garbage after this many new objects: more than all pages in memory have.
OBJECTS_PER_COLLECTION = 100_000
# Limits on the days of all assets that are submitted and whose write has not begun: their number,
# and the bytes of their files. Within these limits, requests continue while Dagster starts the next
# step.
MAX_DAYS_AHEAD = 120
MAX_BYTES_AHEAD = 256 * 2**20
# Submitted days per thread: one is fetched, one waits.
DAYS_PER_THREAD = 2
# Days are added to a transaction until it has at least this many rows.
ROWS_PER_WRITE = 10_000
# A day that is requested in more parts than this fails.
MAX_PARTS = 2000


class Loader:
    """Loads the assets of a run.

    Threads fetch the days of the current asset, then those of the next assets, ahead of the writes.
    Each day is requested alone and staged in a file; if its rows may be incomplete, it is requested
    again in smaller parts. Completed days are written in order, several small days in one
    transaction. The stored rows of a failed day do not change, and the other days are loaded. After
    five failed days, or one 401, 403 or 404, the remaining days of the asset are not requested.

    Args:
        connect: Opens the client before the first request. `close` closes it.
        warehouse: Stores the rows.
        threads: The most requests in flight.
    """

    def __init__(
        self, connect: Callable[[], DixaClient], warehouse: Warehouse, *, threads: int
    ) -> None:
        self._connect = connect
        self.warehouse = warehouse
        self._max_submitted = DAYS_PER_THREAD * threads
        # The current task, then the next ones. The lock guards the tasks, the queues and their
        # contents: fetching threads and the writing thread change them.
        self._tasks: list[Task] = []
        self._queues: dict[str, Queue] = {}
        self._lock = threading.RLock()
        self._resources = ExitStack()
        self._resources.enter_context(_rare_garbage_collection())
        self._file_numbers = itertools.count()
        self._forgotten: frozenset[str] | None = None
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
        try:
            self.warehouse.overwrite_removed()
        except DixaAssetsError as error:
            logger.warning("%s The next run tries again.", error)

    def load(
        self, task: Task, *, run_id: str, upcoming: Iterable[Task] = ()
    ) -> Iterator[LoadedDay]:
        """Load the days of a task and yield each one after it is written, in order.

        Args:
            task: What to load.
            run_id: Stored with every row.
            upcoming: The tasks that will be loaded next. Their days are fetched ahead.

        Raises:
            DaysFailed: At the end, with the error of each failed day.
            ConfigError, ApiError: The request cannot be built, so no day was requested.
            WarehouseError: The database rejected a write. Days already yielded are written.
        """
        # Read the erasures now: a database error then fails the load once, not every day.
        self._read_forgotten()
        with self._lock:
            self._tasks = [task, *upcoming]
            self._discard_if_changed(task)
            queue = self._queue_of(task)
        try:
            self._fetch_ahead()
            # If the request cannot be built, raise one error instead of one per day.
            queue.request_future.result()
            for fetched in self._completed_days(queue):
                yield from self._write(queue, fetched, run_id)
        finally:
            with self._lock:
                self._tasks = [other for other in self._tasks if other is not task]
                self._queues.pop(task.spec.entry.key).discard()
        if queue.failed:
            raise DaysFailed(
                queue.failed, requested=len(task.days), not_requested=len(queue.remaining)
            )

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
        with self._new_file(relation) as staged:
            fill(staged)
            try:
                self.warehouse.replace(relation, [Load(run_id, started, [staged])])
            except ErasedMeanwhile:
                self._forgotten = None
                return self._load_whole(relation, fill, run_id)
            return LoadedTable(staged.rows, staged.usage, time.monotonic() - started)

    def _queue_of(self, task: Task) -> Queue:
        key = task.spec.entry.key
        if key not in self._queues:
            request_future = self._pool.submit(build_request, self._client, task.spec)
            self._queues[key] = Queue(task, request_future)
        return self._queues[key]

    def _discard_if_changed(self, task: Task) -> None:
        """Discard what was fetched ahead for the same entry if the days or settings differ."""
        queue = self._queues.get(task.spec.entry.key)
        if queue and queue.task != task:
            self._queues.pop(task.spec.entry.key).discard()

    def _fetch_ahead(self) -> None:
        """Submit days of the current task, then of the next ones, up to the limits."""
        with self._lock:
            for task in self._tasks:
                queue = self._queue_of(task)
                while queue.can_request():
                    # The writing thread waits for the current task: keep one day submitted.
                    is_awaited = task is self._tasks[0] and not queue.pending
                    if self._is_saturated() and not is_awaited:
                        return
                    self._submit_next_day(queue)

    def _is_saturated(self) -> bool:
        """True if a limit on submitted days is reached."""
        pending = [*itertools.chain(*(queue.pending for queue in self._queues.values()))]
        return (
            sum(not pending_day.future.done() for pending_day in pending) >= self._max_submitted
            or len(pending) >= MAX_DAYS_AHEAD
            or sum(pending_day.bytes for pending_day in pending) >= MAX_BYTES_AHEAD
        )

    def _submit_next_day(self, queue: Queue) -> None:
        pending_day = PendingDay(queue.remaining.popleft())
        pending_day.future = self._pool.submit(self._fetch, queue, pending_day, self._folder)
        queue.pending.append(pending_day)
        pending_day.future.add_done_callback(lambda _: self._fetch_ahead())

    def _fetch(self, queue: Queue, pending_day: PendingDay, folder: Path) -> list[Staged]:
        request = queue.request_future.result()
        started = time.monotonic()
        staged = self._stage(request, pending_day.day, folder)
        pending_day.seconds = time.monotonic() - started
        pending_day.bytes = sum(part.bytes for part in staged)
        return staged

    def _stage(self, request: Request, day: Day, folder: Path) -> list[Staged]:
        """Fetch a day, and each week or month that ends with it, into a file or several parts."""
        files: list[Staged] = []
        spent = Usage()
        periods = deque([day.period])
        try:
            while periods:
                period = periods.popleft()
                files.append(self._new_file(request.spec.relation, folder))
                try:
                    extract(self._client, request, day, files[-1], period)
                    files[-1].close()
                except PeriodUncertain as error:
                    if period.is_shortest or len(files) + len(periods) > MAX_PARTS:
                        raise
                    is_first_split = spent == Usage()
                    if is_first_split:
                        logger.warning("%s The day is requested again in smaller parts.", error)
                    periods.extendleft(reversed(period.split(error.first, error.last)))
                    uncertain = files.pop()
                    uncertain.discard()
                    spent += uncertain.usage
            for span in request.spec.spans_ending(day):
                files.append(self._new_file(request.spec.relation, folder, PERIOD_VALUES))
                extract_span(self._client, request, day, files[-1], span)
                files[-1].close()
        except BaseException:
            for file in files:
                file.discard()
            raise
        files[0].usage += spent
        return files

    def _new_file(
        self, relation: Relation, folder: Path | None = None, table: Table | None = None
    ) -> Staged:
        path = (folder or self._folder) / f"{next(self._file_numbers)}"
        policy = replace(relation.policy, forgotten=self._read_forgotten())
        return Staged(path, table or relation.stored_in, policy, relation.key)

    def _read_forgotten(self) -> frozenset[str]:
        """The digests of forgotten values. Another thread may reset the attribute meanwhile."""
        if (forgotten := self._forgotten) is None:
            forgotten = self._forgotten = self.warehouse.forgotten()
        return forgotten

    def _completed_days(self, queue: Queue) -> Iterator[list[PendingDay]]:
        """Wait for the next day, and yield it with the completed days that follow it."""
        while queue.pending:
            ready: list[PendingDay] = []
            ended = 0
            for pending_day in [*queue.pending]:
                rows = sum(each.rows for each in ready)
                if ready and (rows >= ROWS_PER_WRITE or not pending_day.future.done()):
                    break
                ended += 1
                if error := pending_day.wait():
                    with self._lock:
                        queue.failed[str(pending_day.day)] = error
                else:
                    ready.append(pending_day)
            # These days no longer count toward the limits, so threads can fetch more meanwhile.
            with self._lock:
                for _ in range(ended):
                    queue.pending.popleft()
            self._fetch_ahead()
            if ready:
                yield ready

    def _write(self, queue: Queue, ready: Sequence[PendingDay], run_id: str) -> Iterator[LoadedDay]:
        request = queue.request_future.result()
        loads = [
            Load(
                run_id,
                # The duration leaves out the wait between fetch and write.
                time.monotonic() - pending_day.seconds,
                pending_day.parts,
                pending_day.day,
                pending_day.parts[0].policy.noted_filters(request.filters),
                tuple(request.breakdowns),
                [span.name for span in request.spec.spans_ending(pending_day.day)],
            )
            for pending_day in ready
        ]
        try:
            written = self.warehouse.replace(request.spec.relation, loads)
        except ErasedMeanwhile:
            # The staged rows may hold the forgotten value.
            self._forgotten = None
            for pending_day in ready:
                pending_day.discard()
                pending_day.future = self._pool.submit(
                    self._fetch, queue, pending_day, self._folder
                )
                if error := pending_day.wait():
                    raise error from None
            yield from self._write(queue, ready, run_id)
            return
        ended = time.monotonic()
        for number, (pending_day, load) in enumerate(zip(ready, loads, strict=True)):
            pending_day.discard()
            yield LoadedDay(
                pending_day.day,
                load.counts,
                load.usage,
                pending_day.parts[0].totals,
                written.schema_changes if number == 0 else (),
                written.columns,
                ended - load.started,
                written.preview,
            )


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Make Python collect cyclic garbage every 100,000 new objects.

    A page is about ten thousand objects without cycles. By default Python collects after 700 new
    objects and sometimes scans all objects of Dagster, which takes a quarter of a load's time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(OBJECTS_PER_COLLECTION, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
