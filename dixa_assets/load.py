"""Days of one asset, from the API into the warehouse: fetched side by side, written one by one.

No Dagster: whoever iterates reports each day as it comes.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dixa_assets.client import DixaClient
from dixa_assets.errors import ApiError, DaysFailed, DixaAssetsError
from dixa_assets.extract import Query, Window, extract_metric, extract_record
from dixa_assets.schema import METRIC_VALUES, Table
from dixa_assets.staging import Staged
from dixa_assets.warehouse import Load, Warehouse, Written

# A day that fails does not keep the others from loading; this many say that the next will too.
FAILED_DAYS_BEFORE_STOPPING = 5
# These say the same of every other day at once.
HOPELESS_STATUS = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class LoadedDay:
    """A day that is in the warehouse: what was asked, what came, what was written."""

    window: Window
    staged: Staged
    written: Written
    seconds: float

    def in_words(self) -> str:
        """The day for a log."""
        usage = self.staged.usage
        return (
            f"{self.window.day} ({self.window.hours:g} h): {self.written.rows} rows, "
            f"{usage.requests} requests, {usage.retries} of them repeats"
        )


def load_days(
    client: DixaClient,
    warehouse: Warehouse,
    query: Query,
    windows: Sequence[Window],
    table: Table,
    *,
    run_id: str,
    at_a_time: int,
) -> Iterator[LoadedDay]:
    """Load the windows, in order, each a partition of its own.

    Args:
        client: Closed when the caller stops before the end.
        warehouse: Where the rows go.
        query: What to ask.
        windows: The days.
        table: The record's table, or the metric's view.
        run_id: Noted with every row.
        at_a_time: How many windows are fetched side by side.

    Raises:
        DaysFailed: After all other days, with the error of each day that failed.
    """
    is_metric = query.entry.kind == "metric"
    started: dict[Window, float] = {}
    with warehouse.staging() as folder:

        def fetch(window: Window) -> Staged:
            started[window] = time.monotonic()
            path = folder / window.day.isoformat()
            staged = Staged(path, METRIC_VALUES if is_metric else table)
            try:
                (extract_metric if is_metric else extract_record)(client, query, window, staged)
            except BaseException:
                staged.discard()
                raise
            return staged

        for window, staged in _fetch_side_by_side(client, windows, fetch, at_a_time):
            scope = {"partition_date": window.day.isoformat()}
            written = warehouse.replace(
                staged,
                scope | ({"metric": query.entry.id} if is_metric else {}),
                Load(run_id, started[window], window, query.filters, tuple(query.breakdowns)),
                view=table if is_metric else None,
            )
            staged.discard()
            yield LoadedDay(window, staged, written, time.monotonic() - started[window])


def _fetch_side_by_side(
    client: DixaClient,
    windows: Sequence[Window],
    fetch: Callable[[Window], Staged],
    at_a_time: int,
) -> Iterator[tuple[Window, Staged]]:
    """Windows with their rows, in order, some fetched ahead so that the API is never idle.

    A window that fails is named at the end, when the others are through.
    """
    waiting = iter(windows)
    running: deque[tuple[Window, Future[Staged]]] = deque()
    failed: dict[str, DixaAssetsError] = {}
    with ThreadPoolExecutor(at_a_time, thread_name_prefix="dixa") as pool:
        try:
            while True:
                while len(running) < 2 * at_a_time and not _is_hopeless(failed.values()):
                    window = next(waiting, None)
                    if window is None:
                        break
                    running.append((window, pool.submit(fetch, window)))
                if not running:
                    break
                window, future = running.popleft()
                try:
                    staged = future.result()
                except DixaAssetsError as error:
                    failed[window.day.isoformat()] = error
                else:
                    yield window, staged
        finally:
            for _, future in running:
                if not future.cancel():
                    future.add_done_callback(_discard)
            if running:
                client.close()
    if failed:
        raise DaysFailed(failed, asked=len(windows), untried=sum(1 for _ in waiting))


def _discard(future: Future[Staged]) -> None:
    if future.exception() is None:
        future.result().discard()


def _is_hopeless(failed: Collection[DixaAssetsError]) -> bool:
    return len(failed) >= FAILED_DAYS_BEFORE_STOPPING or any(
        isinstance(error, ApiError) and error.status in HOPELESS_STATUS for error in failed
    )
