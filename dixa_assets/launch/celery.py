"""Dagster's Celery run launcher, extended to detect dead workers.

If a worker dies, Celery keeps its task in the state STARTED forever, and Dagster does not ask the
worker. See https://docs.dagster.io/deployment/execution/celery
"""

from typing import Any

from dagster import DagsterRun
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from dixa_assets.orchestration.dagster_internals import CheckRunHealthResult, WorkerStatus

# How long to wait for a worker to list its tasks.
INSPECT_SECONDS = 2.0
# Consecutive misses before a run fails. One is not enough: a broker that restarts causes a miss.
MISSES_TO_FAIL = 2


class WatchingCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]
    """`dagster_celery.launcher.CeleryRunLauncher` with the same configuration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._misses: dict[str, int] = {}

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the worker that started a run still executes it."""
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
        if not worker:
            return CheckRunHealthResult(
                WorkerStatus.UNKNOWN, "Celery does not know the worker of the run."
            )
        reason = "does not answer" if tasks is None else "has restarted without the run"
        return CheckRunHealthResult(WorkerStatus.FAILED, f"Worker {worker} {reason}.")

    def terminate(self, run_id: str) -> bool:
        """Stop a run on request; False if it has already ended."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        # Without this event, Dagster would treat the run as failed and retry it.
        self._instance.report_run_canceling(run)
        return bool(super().terminate(run_id))
