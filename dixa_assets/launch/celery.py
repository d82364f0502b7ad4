"""Dagster's Celery run launcher and run queue, extended to ask the workers.

If a worker dies, Celery keeps its task in the state STARTED forever, and Dagster does not ask the
worker. Dagster's queue also starts runs for which no worker has a slot; those runs would fail after
`start_timeout_seconds`. See https://docs.dagster.io/deployment/execution/celery
"""

import logging
import time
from typing import Any

from dagster import DagsterRun, QueuedRunCoordinator
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from dixa_assets.orchestration.dagster_internals import CheckRunHealthResult, WorkerStatus

# How long to wait for a worker to list its tasks.
INSPECT_SECONDS = 2.0
# Seconds between two counts of the workers' slots.
COUNT_SECONDS = 30.0
# Consecutive misses before a run fails. One is not enough: a broker that restarts causes a miss.
MISSES_TO_FAIL = 2


class WatchingCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]
    """`dagster_celery.launcher.CeleryRunLauncher` with the same configuration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._misses: dict[str, int] = {}
        self._next_count = 0.0
        # The runs that all workers together can execute; None before the first count.
        self.slots: int | None = None

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the worker that started a run still executes it."""
        self._count_slots()
        result = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
        if result.state in ("SUCCESS", "FAILURE"):
            health: CheckRunHealthResult = super().check_run_worker_health(run)
            return health
        worker = result.info.get("hostname") if isinstance(result.info, dict) else ""
        tasks = None
        if worker:
            inspect = self.celery.control.inspect(destination=[worker], timeout=INSPECT_SECONDS)
            tasks = (inspect.active() or {}).get(worker)
        if tasks is not None and result.id in {task["id"] for task in tasks}:
            self._misses.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._misses[run.run_id] = self._misses.get(run.run_id, 0) + 1
        # `result.state` is read again: the run may have ended since the first check.
        if self._misses[run.run_id] < MISSES_TO_FAIL or result.state in ("SUCCESS", "FAILURE"):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._misses[run.run_id]
        # The worker may only be slow: it stops the run when it reads this, so the retry is alone.
        result.revoke(terminate=True)
        if not worker:
            return CheckRunHealthResult(
                WorkerStatus.UNKNOWN, "Celery does not know the worker of the run."
            )
        reason = "does not answer" if tasks is None else "has restarted without the run"
        return CheckRunHealthResult(WorkerStatus.FAILED, f"Worker {worker} {reason}.")

    def _count_slots(self) -> None:
        if time.monotonic() < self._next_count:
            return
        inspect = self.celery.control.inspect(timeout=INSPECT_SECONDS)
        # A worker without a queue finishes its runs and takes no others.
        queues, workers = inspect.active_queues() or {}, inspect.stats() or {}
        self.slots = sum(
            about["pool"]["max-concurrency"] for name, about in workers.items() if queues.get(name)
        )
        self._next_count = time.monotonic() + COUNT_SECONDS

    def terminate(self, run_id: str) -> bool:
        """Stop a run on request; False if it has already ended."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        # Without this event, Dagster would treat the run as failed and retry it.
        self._instance.report_run_canceling(run)
        return bool(super().terminate(run_id))


class SlotRunCoordinator(QueuedRunCoordinator):
    """`dagster.QueuedRunCoordinator` with the same configuration; keeps runs queued without a slot.

    The limit is a setting of the coordinator here. `concurrency.runs` in dagster.yaml would
    override it.
    """

    _reported: int | None = None

    def get_run_queue_config(self) -> Any:
        """The settings of the queue, with no more concurrent runs than the workers have slots."""
        config = super().get_run_queue_config()
        slots = getattr(self._instance.run_launcher, "slots", None)
        most = config.max_concurrent_runs
        if slots is None or 0 <= most <= slots:
            return config
        if slots != self._reported:
            self._reported = slots
            logging.getLogger(__name__).warning(
                "The workers have slots for %s runs, and max_concurrent_runs is %s. The other runs "
                "wait in the queue. Start more workers, or lower max_concurrent_runs.",
                slots,
                most,
            )
        # At least one run, because slots are counted while runs are checked.
        return config._replace(max_concurrent_runs=max(slots, 1))
