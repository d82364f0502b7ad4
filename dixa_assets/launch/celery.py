"""Dagster's Celery run launcher, which also notices that a worker is gone.

Celery leaves a task that was started at STARTED for ever when its worker dies, and Dagster asks no
further. See https://docs.dagster.io/deployment/execution/celery
"""

from typing import Any

from dagster import DagsterRun
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from dixa_assets.orchestration.dagster_internals import CheckRunHealthResult, WorkerStatus

# How long a worker may take to say which tasks it has.
PATIENCE_SECONDS = 2.0
# In a row; a broker that is being started again would otherwise end live runs.
MISSES = 2


class WatchingCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]
    """`dagster_celery.launcher.CeleryRunLauncher`, with its configuration."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._missed: dict[str, int] = {}

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the worker that took a run still has it."""
        result = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
        if result.state in ("SUCCESS", "FAILURE"):
            health: CheckRunHealthResult = super().check_run_worker_health(run)
            return health
        worker = result.info.get("hostname") if isinstance(result.info, dict) else ""
        tasks = None
        if worker:
            inspect = self.celery.control.inspect(destination=[worker], timeout=PATIENCE_SECONDS)
            tasks = (inspect.active() or {}).get(worker)
        if tasks is not None and result.id in {task["id"] for task in tasks}:
            self._missed.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missed[run.run_id] = self._missed.get(run.run_id, 0) + 1
        # What has ended meanwhile is not missed.
        if self._missed[run.run_id] < MISSES or result.state in ("SUCCESS", "FAILURE"):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._missed[run.run_id]
        if not worker:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "Nobody knows which worker has it.")
        why = "does not answer" if tasks is None else "was started anew, without the run"
        return CheckRunHealthResult(WorkerStatus.FAILED, f"Worker {worker} {why}.")

    def terminate(self, run_id: str) -> bool:
        """Stop a run that somebody wants stopped."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        # Otherwise Dagster takes it for one that failed, and starts it again.
        self._instance.report_run_canceling(run)
        return bool(super().terminate(run_id))
