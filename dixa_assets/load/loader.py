"""Days of assets, from the API into the warehouse: fetched ahead side by side, written in order.

Whoever iterates reports each day as it comes.
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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dixa_assets.api.client import DixaClient
from dixa_assets.api.extract import extract, extract_filter_values
from dixa_assets.api.requests import Request
from dixa_assets.errors import (
    ApiError,
    ApiRefused,
    DaysFailed,
    DixaAssetsError,
    PagesCutShort,
    RowsAstray,
)
from dixa_assets.load.plan import (
    DAYS_BESIDE,
    MOST_DAYS,
    Ask,
    believed,
    is_proven,
    length_of,
    next_ask,
)
from dixa_assets.load.progress import LoadedDay, LoadedTable
from dixa_assets.model.catalogue import Entry
from dixa_assets.model.counts import Counts, Volume
from dixa_assets.model.days import MILLISECOND, Window
from dixa_assets.model.tables import Relation
from dixa_assets.staging import Staged
from dixa_assets.warehouse.load_log import Batch
from dixa_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

# Rows may be added so long after a day: more of them than before are no sign of a cut.
LATE = timedelta(days=2)
# After this many failed days, the rest of the asset's days are given up.
FAILED_DAYS_BEFORE_STOPPING = 5
# One answer with such a status says that every other day would get the same.
HOPELESS_STATUS = frozenset({401, 403, 404})
# New objects between two garbage collections: more than the pages in memory at one time have.
YOUNG_OBJECTS = 100_000
# Windows of all assets together that are being fetched, or have come and wait to be written, and
# the bytes of these on disk. Enough to keep the API busy for the seconds in which Dagster takes
# several steps of one request each.
READ_AHEAD = 120
BYTES_AHEAD = 256 * 2**20
# Windows for each thread that are asked for, or wait for the thread.
WINDOWS_A_THREAD = 2
# Days that wait to be written go into one transaction while they have fewer rows than this.
ROWS_A_WRITE = 10_000


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be loaded of one metric or record: where it goes, what is asked, which days.

    `build_request` may ask the API itself, for the values of a filter attribute.
    """

    entry: Entry
    relation: Relation
    build_request: Callable[[DixaClient], Request]
    days: Sequence[Window]


class Loader:
    """Loads assets one after the other, and fetches the first days of the next in good time.

    Made for all steps of a run: a thread that has its answer takes the next window of the asset
    that is being loaded or, when that has enough on its way, of those that follow. So the API is
    never idle while days are written, checked and reported, and while Dagster changes steps.

    Args:
        connect: Gives a client of the API, when the first thing is asked; closed with the loader.
        warehouse: Where the rows go.
        at_a_time: How many windows are fetched side by side.
        days_alone: Whether no two days may share a request.
        longest_period: How many days a request may cover, until one is refused.
    """

    def __init__(
        self,
        connect: Callable[[], DixaClient],
        warehouse: Warehouse,
        *,
        at_a_time: int,
        days_alone: bool = False,
        longest_period: int = MOST_DAYS,
    ) -> None:
        self._connect = connect
        self.warehouse = warehouse
        self._at_a_time = at_a_time
        self._most_under_way = WINDOWS_A_THREAD * at_a_time
        self._days_alone = days_alone
        self._longest_period = longest_period
        # What is being loaded, then what is next. The lock is for this, the feeds and what is in
        # them, which threads that have their answer and the one who writes change.
        self._tasks: list[Task] = []
        self._feeds: dict[str, _Feed] = {}
        self._lock = threading.RLock()
        self._resources = ExitStack()
        self._resources.enter_context(_rare_garbage_collection())
        self._numbers = itertools.count()
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="dixa")

    @cached_property
    def _client(self) -> DixaClient:
        return self._connect()

    @cached_property
    def _folder(self) -> Path:
        return self._resources.enter_context(self.warehouse.staging())

    @cached_property
    def _volumes(self) -> dict[str, Volume]:
        return self.warehouse.volumes()

    def close(self) -> None:
        """Stop fetching, forget what was not written, close the client."""
        if "_client" in vars(self):
            self._client.close()
        with self._lock:
            self._tasks = []
            for feed in self._feeds.values():
                feed.abandon()
        self._pool.shutdown(cancel_futures=True)
        self._resources.close()

    def load(
        self, task: Task, *, run_id: str, upcoming: Iterable[Task] = ()
    ) -> Iterator[LoadedDay]:
        """Load the days of a task, in order, each a partition of its own.

        Args:
            task: What to load.
            run_id: Noted with every row.
            upcoming: What will be loaded next.

        Raises:
            DaysFailed: After all other days, with the error of each day that failed.
        """
        with self._lock:
            self._tasks = [task, *upcoming]
            feed = self._feed(task)
        try:
            self._fetch_ahead()
            # A request that cannot be built is one error, not one for each day.
            feed.request.result()
            for ready in self._fetched(feed):
                yield from self._write(feed, ready, run_id)
        finally:
            with self._lock:
                self._tasks = [other for other in self._tasks if other is not task]
                self._feeds.pop(task.entry.key).abandon()
        if feed.failed:
            raise DaysFailed(feed.failed, asked=len(task.days), untried=len(feed.waiting))

    def load_filter_values(self, attribute: str, relation: Relation, *, run_id: str) -> LoadedTable:
        """Replace the table of a filter attribute's values by those that Dixa offers now."""
        return self._load_whole(
            relation, partial(extract_filter_values, self._client, attribute), run_id
        )

    def load_rows(
        self, relation: Relation, rows: Sequence[Mapping[str, Any]], *, run_id: str
    ) -> LoadedTable:
        """Replace a whole table by rows that are at hand."""
        return self._load_whole(relation, lambda staged: [*map(staged.add, rows)], run_id)

    def _load_whole(
        self, relation: Relation, fill: Callable[[Staged], Any], run_id: str
    ) -> LoadedTable:
        started = time.monotonic()
        with Staged(self._folder / f"{next(self._numbers)}", relation.stored_in) as staged:
            fill(staged)
            self.warehouse.replace(relation, [Batch(run_id, started, [staged])])
            return LoadedTable(staged.rows, staged.usage, time.monotonic() - started)

    def _fetched(self, feed: "_Feed") -> Iterator[list["_Fetch"]]:
        """What has come, in order; more than one when writing was slower than fetching."""
        while feed.running:
            ready: list[_Fetch] = []
            looked_at = 0
            for fetch in [*feed.running]:
                rows = sum(one.rows for one in ready)
                if ready and (rows >= ROWS_A_WRITE or not fetch.is_done()):
                    break
                looked_at += 1
                error = fetch.wait()
                with self._lock:
                    if error:
                        feed.fail(fetch.ask, error)
                    else:
                        feed.believe(fetch)
                        feed.weigh(fetch)
                if error or not fetch.ask.days:
                    fetch.discard()
                else:
                    ready.append(fetch)
            # Until here they kept their place, so that nothing else was asked for in their stead.
            with self._lock:
                for _ in range(looked_at):
                    feed.running.popleft()
            self._fetch_ahead()
            if ready:
                yield ready

    def _write(self, feed: "_Feed", ready: Sequence["_Fetch"], run_id: str) -> Iterator[LoadedDay]:
        request = feed.request.result()
        batches = [
            Batch(
                run_id,
                # The time a fetched day waited to be written is not part of its load.
                time.monotonic() - fetch.seconds,
                fetch.parts,
                fetch.ask.days,
                request.filters,
                tuple(request.breakdowns),
                0 if feed.was_cut else fetch.proven,
            )
            for fetch in ready
        ]
        written = self.warehouse.replace(feed.task.relation, batches)
        ended = time.monotonic()
        for number, fetch in enumerate(ready):
            fetch.discard()
            for day, counts, usage in batches[number].by_day():
                yield LoadedDay(
                    day,
                    counts,
                    usage,
                    fetch.parts[0].totals,
                    written.schema_changes if number == 0 else (),
                    written.columns,
                    ended - batches[number].started,
                    len(fetch.ask.days),
                    written.preview,
                )

    def _feed(self, task: Task) -> "_Feed":
        key = task.entry.key
        if key not in self._feeds:
            # A metric's answer is one aggregate over its window: days cannot share a request.
            is_alone = self._days_alone or bool(task.relation.only)
            volume = Volume(alone=True) if is_alone else self._volumes.get(key, Volume())
            request = self._pool.submit(task.build_request, self._client)
            longest = max(self._longest_period - DAYS_BESIDE, 1)
            self._feeds[key] = _Feed(task, request, volume, longest)
        return self._feeds[key]

    def _fetch_ahead(self) -> None:
        """Keep the threads busy with what is being loaded, then with what is next."""
        with self._lock:
            for task in self._tasks:
                feed = self._feed(task)
                while feed.may_ask(self._most_under_way):
                    # Who writes waits for a window of what is being loaded, whatever there is.
                    is_waited_for = task is self._tasks[0] and not feed.running
                    if self._has_enough() and not is_waited_for:
                        return
                    feed.running.append(self._start(feed))

    def _has_enough(self) -> bool:
        """Whether so much is under way, or has come, that nothing needs to be asked for now."""
        fetches = [*itertools.chain(*(feed.running for feed in self._feeds.values()))]
        return (
            sum(not fetch.is_done() for fetch in fetches) >= self._most_under_way
            or len(fetches) >= READ_AHEAD
            or sum(fetch.bytes for fetch in fetches) >= BYTES_AHEAD
        )

    def _start(self, feed: "_Feed") -> "_Fetch":
        ask = next_ask(
            feed.waiting,
            feed.volume,
            page_rows=self._client.page_size,
            most_parts=self._at_a_time,
            longest=feed.longest,
            doubted=feed.doubted,
        )
        fetch = _Fetch(ask)
        fetch.futures = [
            self._pool.submit(self._stage, feed, fetch, window, self._folder)
            for window in fetch.windows
        ]
        for future in fetch.futures:
            future.add_done_callback(self._go_on)
        return fetch

    def _go_on(self, _: Future[list[Staged]]) -> None:
        # What keeps an asset from being begun ahead is raised when it is the asset's turn.
        with suppress(DixaAssetsError):
            self._fetch_ahead()

    def _stage(self, feed: "_Feed", fetch: "_Fetch", window: Window, folder: Path) -> list[Staged]:
        """The rows of a window: of each half, where the pages of the whole end too early."""
        request = feed.request.result()
        fetch.started = fetch.started or time.monotonic()
        staged = Staged(folder / f"{next(self._numbers)}", feed.task.relation.stored_in)
        try:
            extract(self._client, request, window, staged, fetch.days)
            staged.close()
        except PagesCutShort as error:
            staged.discard()
            # Several days are asked for as fewer: a half may be cut too, and nobody would see it.
            if len(fetch.days) > 1 or window.end - window.start <= MILLISECOND:
                raise
            logger.warning("%s The period is asked for in halves.", error)
            halves = [self._stage(feed, fetch, half, folder) for half in window.parts(2)]
            return [*itertools.chain(*halves)]
        except BaseException:
            staged.discard()
            raise
        fetch.ended = time.monotonic()
        return [staged]


class _Feed:
    """A task on its way: days not yet asked for, fetches under way, days that failed."""

    def __init__(self, task: Task, request: Future[Request], volume: Volume, longest: int) -> None:
        self.task = task
        self.request = request
        self.volume = volume
        self.waiting = deque(task.days)
        self.running: deque[_Fetch] = deque()
        self.failed: dict[str, DixaAssetsError] = {}
        # How many days a request may cover, which days are asked for alone, with the rows that a
        # joint answer had of them, and whether one has more.
        self.longest = longest
        self.doubted: dict[Window, int] = {}
        self.was_cut = volume.was_cut
        # How long a time an answer has covered, if the days at its ends have no more rows alone.
        self.claims: dict[int, set[Window]] = {}

    def may_ask(self, most: int) -> bool:
        """Whether to ask for another window.

        Not beyond so many, where what they bring decides how the days after are asked for, nor
        beside one that proves for how long a time it can be asked; nor while there is a failure
        that nobody has looked at.
        """
        return (
            bool(self.waiting)
            and (self.volume.alone or len(self.running) < most)
            and not _is_hopeless(self.failed.values())
            and not any(fetch.ask.before or fetch.has_failed() for fetch in self.running)
        )

    def fail(self, ask: Ask, error: DixaAssetsError) -> None:
        """Ask for days that failed together in smaller periods; note a day that failed alone."""
        if len(ask.days) == 1 or _is_hopeless([error]):
            self.failed.update({day.day.isoformat(): error for day in ask.days})
            return
        # A period may be too long. Anything else is no better for half of it.
        self.longest = 1
        if isinstance(error, (ApiRefused, PagesCutShort)):
            half = len(ask.days) // 2
            self.longest = half - DAYS_BESIDE if half > 2 * DAYS_BESIDE else half
        self.volume.alone |= isinstance(error, RowsAstray)
        self.waiting.extendleft(reversed(ask.days))
        logger.warning(
            "%s: %d days could not be fetched together; a request covers %d at most now. %s",
            self.task.entry.key,
            len(ask.days),
            1 if self.volume.alone else self.longest,
            error,
        )

    def believe(self, fetch: "_Fetch") -> None:
        """Keep the days of an answer that are certain; the others wait to be asked for again."""
        ask, volume = fetch.ask, self.volume
        if len(ask.days) == 1:
            self._compare(fetch)
            return
        filled = [number for number, day in enumerate(ask.days) if fetch.rows_of(day)]
        has_before, has_after = (
            each is not None and fetch.rows_of(each) > 0 for each in (ask.before, ask.after)
        )
        kept = believed(ask, filled, volume, has_before=has_before, has_after=has_after)
        left = (*ask.days[: kept.start], *ask.days[kept.stop :])
        ends = [ask.days[filled[0]], ask.days[filled[-1]]] if filled else []
        was_proven = is_proven(ask.days, volume)
        alone = {day for day in left if day in ends or was_proven}
        self.doubted |= {day: fetch.rows_of(day) for day in alone or left}
        covered = ask.days[kept]
        if filled and was_proven:
            covered = ask.days[max(filled[0], kept.start) : min(filled[-1] + 1, kept.stop)]
        fetch.proven = length_of(covered)
        if ends:
            self.claims[length_of(ask.days[filled[0] : filled[-1] + 1])] = {*ends} & {*left}
        volume.reach = max(volume.reach, fetch.proven)
        if {*left} - {*ends}:
            # Empty days may have been cut off.
            self.longest = min(self.longest, volume.reach)
        if left:
            self.waiting.extendleft(reversed(left))
            fetch.ask = replace(ask, days=ask.days[kept])

    def weigh(self, fetch: "_Fetch") -> None:
        """Count what came of the days that are kept: it decides how the next are asked for."""
        for day in fetch.ask.days:
            counts = fetch.counts_of(day)
            self.volume.days += 1
            self.volume.rows += counts.rows
            self.volume.alone |= counts.outside_window > 0

    def _compare(self, fetch: "_Fetch") -> None:
        """See whether a day has more rows alone than a joint answer had of it."""
        (day,) = fetch.ask.days
        if day not in self.doubted or self.was_cut:
            return
        if fetch.rows != self.doubted[day] and day.end > datetime.now(UTC) - LATE:
            # Rows may have come since, and the next load will tell.
            return
        if fetch.rows > self.doubted[day]:
            self.was_cut = self.volume.alone = True
            logger.warning(
                "%s: a joint answer lacked rows that %s alone has, so each day is asked for "
                "alone from now on.",
                self.task.entry.key,
                day.day,
            )
            return
        for length, ends in self.claims.items():
            ends.discard(day)
            if not ends:
                fetch.proven = max(fetch.proven, length)
        self.volume.reach = max(self.volume.reach, fetch.proven)

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
        self.days = tuple(day for day in (ask.before, *ask.days, ask.after) if day)
        self.windows = ask.windows
        if len(self.days) > len(ask.days):
            start, end = self.days[0].start, self.days[-1].end
            self.windows = (replace(ask.windows[0], start=start, end=end),)
        self.proven = 1
        self.started = self.ended = 0.0
        self.futures: list[Future[list[Staged]]] = []
        self.parts: list[Staged] = []

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """What has come of it, on disk."""
        came = [future for future in self.futures if future.done() and not _error_of(future)]
        return sum(part.bytes for future in came for part in future.result())

    def counts_of(self, day: Window) -> Counts:
        key = day.day.isoformat()
        return sum((part.days[key] for part in self.parts if key in part.days), Counts())

    def rows_of(self, day: Window) -> int:
        return self.counts_of(day).rows

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return self.ended - self.started

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def has_failed(self) -> bool:
        return any(future.done() and _error_of(future) for future in self.futures)

    def wait(self) -> DixaAssetsError | None:
        """Return when all parts have come, or the error of the first that did not."""
        try:
            self.parts = [*itertools.chain(*(future.result() for future in self.futures))]
        except DixaAssetsError as error:
            return error
        return None

    def discard(self) -> None:
        for future in self.futures:
            future.add_done_callback(_discard)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Have Python collect cyclic garbage every 100,000 new objects.

    A page is some ten thousand objects, none of them in a cycle. Python's default is a collection
    every 700 objects, now and then through all of Dagster's: a quarter of a load's time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
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
