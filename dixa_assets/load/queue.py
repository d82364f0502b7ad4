"""The days of a task: remaining, pending and failed."""

from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from dixa_assets.api.requests import Request
from dixa_assets.errors import ApiError, DixaAssetsError
from dixa_assets.model.days import Day
from dixa_assets.model.options import LoadSpec
from dixa_assets.staging import Staged

# After this many failed days, the rest of the asset's days are not requested.
FAILED_DAYS_BEFORE_STOPPING = 5
# With one of these statuses, every other day of the asset would fail too.
FATAL_STATUS = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Task:
    """Days of one metric or record to load."""

    spec: LoadSpec
    days: Sequence[Day]


class Queue:
    """A task in progress: days to submit, pending days in order, failed days."""

    def __init__(self, task: Task, request_future: Future[Request]) -> None:
        self.task = task
        self.request_future = request_future
        self.remaining = deque(task.days)
        self.pending: deque[PendingDay] = deque()
        self.failed: dict[str, DixaAssetsError] = {}

    def can_request(self) -> bool:
        """True if days remain, the asset has not stopped, and every failed day is counted.

        `Loader._completed_days` counts them.
        """
        return (
            bool(self.remaining)
            and not _should_stop(self.failed.values())
            and not any(pending_day.has_failed() for pending_day in self.pending)
        )

    def discard(self) -> None:
        """Cancel pending days and remove their files."""
        for pending_day in self.pending:
            if not pending_day.future.cancel():
                pending_day.discard()


class PendingDay:
    """A submitted day, and its staged files when it is completed."""

    future: Future[list[Staged]]

    def __init__(self, day: Day) -> None:
        self.day = day
        # The duration of its requests, and the size of its files: 0 until the day is completed.
        self.seconds, self.bytes = 0.0, 0
        self.parts: list[Staged] = []

    @property
    def rows(self) -> int:
        """The number of staged rows."""
        return sum(part.rows for part in self.parts)

    def has_failed(self) -> bool:
        """True if the day failed or was cancelled."""
        return self.future.done() and _error_of(self.future) is not None

    def wait(self) -> DixaAssetsError | None:
        """Wait for the day and return its error, if it failed."""
        try:
            self.parts = self.future.result()
        except DixaAssetsError as error:
            return error
        return None

    def discard(self) -> None:
        """Remove the staged files, now or when the fetching thread ends."""
        self.future.add_done_callback(_discard)


def _error_of(ended: Future[Any]) -> BaseException | None:
    return CancelledError() if ended.cancelled() else ended.exception()


def _discard(future: Future[list[Staged]]) -> None:
    if not _error_of(future):
        for staged in future.result():
            staged.discard()


def _should_stop(failed: Collection[DixaAssetsError]) -> bool:
    return len(failed) >= FAILED_DAYS_BEFORE_STOPPING or any(
        isinstance(error, ApiError) and error.status in FATAL_STATUS for error in failed
    )
