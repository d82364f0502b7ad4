"""Several machines with the wheel and the files in `deploy/`: workers die, servers restart."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets_tests.support.cluster import Cluster, running_cluster, wheel_environment
from dixa_assets_tests.support.graphql import ASSETS, BACKFILL, BACKFILL_STATUS, assets_in
from dixa_assets_tests.support.processes import wait_until
from dixa_assets_tests.support.scenario import component, days, fetched, load
from dixa_assets_tests.support.services import own_redis
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.services

KEYS = [
    "dixa_metrics/closed_conversations",
    "dixa_metrics/csat",
    "dixa_records/closed_conversations",
    "dixa_records/created_conversations",
    "dixa_records/ratings",
]
DAYS = [str(day) for day in days("2025-10-20", "2025-10-25")]
TERMINATE = "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("dagster_celery", reason="it takes the extra dixa-assets[services]")
    return wheel_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def cluster(
    simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory, python: Path
) -> Iterator[Cluster]:
    simulator_process.tell("reset")
    with running_cluster(
        tmp_path_factory.mktemp("machines"),
        simulator_process,
        python,
        DIXA_HISTORY_DAYS="0",
        DIXA_DAYS_PER_RUN="2",
        DIXA_CATALOGUE_REFRESH_SECONDS="15",
    ) as cluster:
        cluster.start_all(workers=2)
        until_ready(cluster)
        yield cluster


def until_ready(cluster: Cluster) -> None:
    """Wait for the catalogue, and for the run that loads its tables."""
    wait_until(lambda: len(assets(cluster)) > 30, what="the assets")
    wait_until(
        lambda: any(run["status"] == "SUCCESS" for run in cluster.runs()),
        what="the runs for the catalogue's own tables",
    )


def assets(cluster: Cluster) -> set[str]:
    return assets_in(cluster.ask(ASSETS))


def backfill(cluster: Cluster, keys: list[str] = KEYS, chosen: list[str] = DAYS) -> str:
    asked = [{"path": key.split("/")} for key in keys]
    return str(
        cluster.ask(BACKFILL, keys=asked, days=chosen)["launchPartitionBackfill"]["backfillId"]
    )


def until_done(cluster: Cluster, launched: str) -> str:
    def ended() -> str | None:
        data = cluster.ask(BACKFILL_STATUS, id=launched)
        status = data["partitionBackfillOrError"]["status"] if data else "REQUESTED"
        return None if status in ("REQUESTED", "IN_PROGRESS", "CANCELING") else str(status)

    return wait_until(ended, what="the end of the backfill")


def busy(cluster: Cluster, launched: str) -> dict[str, Any] | None:
    """A run of the backfill that has written days and has not ended."""
    for run in cluster.runs(launched):
        if run["status"] == "STARTED" and cluster.holder(run):
            found = cluster.warehouse().query(
                "SELECT count(*) AS days FROM dixa_catalogue.loads WHERE run_id = ?", [run["runId"]]
            )
            if found.days[0] >= 1:
                return run
    return None


def assert_loaded_as_by_one_process(cluster: Cluster, folder: Path, keys: list[str]) -> None:
    """Rows and load log are those of one process that loads into a file."""
    alone = component(cluster.simulator, folder, start_date="2025-01-01")
    assert load(alone, keys, DAYS[0], DAYS[-1], catalogue=fetched(alone)).success
    for key in keys:
        query = (
            f"SELECT COLUMNS(* EXCLUDE (loaded_at, run_id))::VARCHAR "
            f"FROM {key.replace('/', '.')} ORDER BY ALL"
        )
        theirs, ours = cluster.warehouse().query(query), alone.build_warehouse().query(query)
        assert len(ours) > 0
        columns = sorted(ours.columns)
        assert sorted(theirs.columns) == columns
        rows = [frame[columns].fillna("").values.tolist() for frame in (theirs, ours)]
        assert sorted(rows[0]) == sorted(rows[1])
    log = (
        "SELECT asset_key, partition_date::VARCHAR, rows FROM dixa_catalogue.loads "
        "WHERE partition_date IS NOT NULL ORDER BY ALL"
    )
    logs = [
        each.query(log).values.tolist() for each in (cluster.warehouse(), alone.build_warehouse())
    ]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_a_backfill_survives_a_worker_and_both_servers(
    cluster: Cluster, simulator_process: Simulator, tmp_path: Path
) -> None:
    # The worker is killed in the middle of a load.
    simulator_process.tell("settings", latency_ms=700)
    launched = backfill(cluster)
    run = wait_until(lambda: busy(cluster, launched), what="a run under way")
    killed = cluster.holder(run)
    cluster.kill(killed)
    wait_until(
        lambda: [
            one
            for one in cluster.runs(launched)
            if one["runId"] == run["runId"] and one["status"] == "FAILURE"
        ],
        what="the failure of the dead worker's run",
    )
    cluster.start_worker("w3")

    cluster.redis.stop()
    cluster.redis.start()
    wait_until(lambda: busy(cluster, launched), what="another run under way")
    cluster.postgres.stop()
    simulator_process.tell("metrics", entry={"id": "brand_new"}, like="csat")
    cluster.postgres.start()
    simulator_process.tell("settings", latency_ms=0)

    until_done(cluster, launched)
    wait_until(lambda: "dixa_metrics/brand_new" in assets(cluster), what="a new metric")
    # A step may have failed during the restart, so its days are loaded again.
    keys = [*KEYS, "dixa_metrics/brand_new"]
    assert until_done(cluster, backfill(cluster, keys)) == "COMPLETED_SUCCESS"
    assert_loaded_as_by_one_process(cluster, tmp_path, keys)
    assert all(process.poll() is None for process in cluster.processes.values())


@pytest.mark.slow
def test_a_run_that_is_stopped_by_hand_stays_stopped(
    cluster: Cluster, simulator_process: Simulator
) -> None:
    simulator_process.tell("settings", latency_ms=5000)
    launched = backfill(cluster)
    run = wait_until(lambda: busy(cluster, launched), what="a run under way")
    cluster.ask(TERMINATE, run=run["runId"])

    def status() -> str:
        (found,) = (one for one in cluster.runs(launched) if one["runId"] == run["runId"])
        return str(found["status"])

    wait_until(lambda: status() == "CANCELED", what="the run is canceled")
    simulator_process.tell("settings", latency_ms=0)
    until_done(cluster, launched)
    children = [
        one for one in cluster.runs() if one["tags"].get("dagster/parent_run_id") == run["runId"]
    ]
    assert children == []


SLEEPER = """
import time
from celery import Celery

app = Celery("sleeper", broker={url!r}, backend={url!r})
app.conf.update(task_default_queue="dagster", task_track_started=True)

@app.task
def sleep():
    time.sleep(300)
"""


@contextmanager
def sleeping_worker(folder: Path) -> Iterator[tuple[Any, Any, subprocess.Popen[bytes]]]:
    """A worker with two slots and a task under way: the app, the task's result and the process."""
    celery = pytest.importorskip("celery", reason="it takes the extra dixa-assets[services]")
    with own_redis(folder / "redis") as redis, (folder / "log").open("wb") as output:
        url = f"redis://127.0.0.1:{redis.port}/0"
        (folder / "sleeper.py").write_text(SLEEPER.format(url=url))
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "sleeper", "worker", "--concurrency=2"],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with celery.Celery(broker=url, backend=url) as app:
                result = app.send_task("sleeper.sleep", queue="dagster")
                wait_until(lambda: result.state == "STARTED", what="the task")
                yield app, result, worker
        finally:
            os.killpg(worker.pid, signal.SIGCONT)
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def launched(app: Any, result: Any) -> tuple[dict[str, Any], dg.DagsterRun]:
    """Settings of an instance with that broker, and the run of a task."""
    module = "dixa_assets.launch.celery"
    url = app.conf.broker_url
    settings = {
        "run_launcher": {
            "module": module,
            "class": "WatchingCeleryRunLauncher",
            "config": {"broker": url, "backend": url},
        },
        "run_coordinator": {
            "module": module,
            "class": "SlotRunCoordinator",
            "config": {"max_concurrent_runs": 4},
        },
    }
    return settings, dg.DagsterRun(job_name="any", tags={"dagster-celery/task_id": result.id})


def test_a_worker_that_only_paused_stops_the_run_that_was_declared_dead(tmp_path: Path) -> None:
    with sleeping_worker(tmp_path) as (app, result, worker):
        settings, run = launched(app, result)
        with dg.instance_for_test(overrides=settings) as instance:
            check = instance.run_launcher.check_run_worker_health
            assert check(run).status.value == "RUNNING"
            os.killpg(worker.pid, signal.SIGSTOP)
            assert [check(run).status.value for _ in range(2)] == ["RUNNING", "FAILED"]
            os.killpg(worker.pid, signal.SIGCONT)
            wait_until(lambda: result.state == "REVOKED", what="the end of the run")


def test_runs_stay_queued_while_no_worker_has_a_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("dagster_celery", reason="it takes the extra dixa-assets[services]")
    monkeypatch.setattr("dixa_assets.launch.celery.COUNT_SECONDS", 0)
    with sleeping_worker(tmp_path) as (app, result, _):
        settings, run = launched(app, result)
        with dg.instance_for_test(overrides=settings) as instance:

            def limit() -> int:
                queue = instance.get_concurrency_config().run_queue_config
                assert queue is not None
                return queue.max_concurrent_runs

            assert limit() == 4, "before the first count"
            instance.run_launcher.check_run_worker_health(run)
            assert limit() == 2
            assert "slots for 2 runs" in caplog.text
            # How an operator empties a worker before he stops it.
            app.control.cancel_consumer("dagster", reply=True)
            instance.run_launcher.check_run_worker_health(run)
            assert limit() == 1, "one run at a time still asks whether workers have come back"
