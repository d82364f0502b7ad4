"""Several machines with the wheel and the files in `deploy/`: workers die, servers restart."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import Field
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef

from dixa_assets_tests.support.cluster import Cluster, running_cluster, wheel_environment
from dixa_assets_tests.support.graphql import ASSETS, BACKFILL, BACKFILL_STATUS, assets_in
from dixa_assets_tests.support.processes import PROJECT, wait_until
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.services

KEYS = [
    "dixa_metrics/closed_conversations",
    "dixa_metrics/csat",
    "dixa_records/closed_conversations",
    "dixa_records/created_conversations",
    "dixa_records/ratings",
]
FIRST = date(2025, 10, 20)
DAYS = [str(FIRST + timedelta(days=number)) for number in range(10)]
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
    wait_until(lambda: len(assets(cluster)) > 30, seconds=90, what="the assets")
    wait_until(
        lambda: any(run["status"] == "SUCCESS" for run in cluster.runs()),
        seconds=120,
        what="the runs for the catalogue's own tables",
    )


def assets(cluster: Cluster) -> set[str]:
    return assets_in(cluster.ask(ASSETS))


def backfill(cluster: Cluster, keys: list[str] = KEYS, days: list[str] = DAYS) -> str:
    asked = [{"path": key.split("/")} for key in keys]
    return str(
        cluster.ask(BACKFILL, keys=asked, days=days)["launchPartitionBackfill"]["backfillId"]
    )


def until_done(cluster: Cluster, launched: str, seconds: float = 300) -> str:
    def ended() -> str | None:
        data = cluster.ask(BACKFILL_STATUS, id=launched)
        status = data["partitionBackfillOrError"]["status"] if data else "REQUESTED"
        return None if status in ("REQUESTED", "IN_PROGRESS", "CANCELING") else str(status)

    return wait_until(ended, seconds=seconds, what="the end of the backfill")


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
    run = wait_until(lambda: busy(cluster, launched), seconds=120, what="a run under way")
    killed = cluster.holder(run)
    cluster.kill(killed)
    wait_until(
        lambda: [
            one
            for one in cluster.runs(launched)
            if one["runId"] == run["runId"] and one["status"] == "FAILURE"
        ],
        seconds=60,
        what="the failure of the dead worker's run",
    )
    cluster.start_worker("w3")

    cluster.redis.stop()
    cluster.redis.start()
    wait_until(lambda: busy(cluster, launched), seconds=120, what="another run under way")
    cluster.postgres.stop()
    simulator_process.tell("metrics", entry={"id": "brand_new"}, like="csat")
    cluster.postgres.start()
    simulator_process.tell("settings", latency_ms=0)

    until_done(cluster, launched)
    # A step may have failed during the restart, so its days are loaded again.
    again = backfill(cluster)
    assert until_done(cluster, again) == "COMPLETED_SUCCESS"
    wait_until(lambda: "dixa_metrics/brand_new" in assets(cluster), seconds=90, what="a new metric")
    launched = backfill(cluster, ["dixa_metrics/brand_new"])
    assert until_done(cluster, launched) == "COMPLETED_SUCCESS"
    assert_loaded_as_by_one_process(cluster, tmp_path, [*KEYS, "dixa_metrics/brand_new"])
    assert all(process.poll() is None for process in cluster.processes.values())


@pytest.mark.slow
def test_a_run_that_is_stopped_by_hand_stays_stopped(
    cluster: Cluster, simulator_process: Simulator
) -> None:
    simulator_process.tell("settings", latency_ms=5000)
    launched = backfill(cluster)
    run = wait_until(lambda: busy(cluster, launched), seconds=120, what="a run under way")
    cluster.ask(TERMINATE, run=run["runId"])

    def status() -> str:
        (found,) = (one for one in cluster.runs(launched) if one["runId"] == run["runId"])
        return str(found["status"])

    wait_until(lambda: status() == "CANCELED", seconds=60, what="the run is canceled")
    until_done(cluster, launched)
    children = [
        one for one in cluster.runs() if one["tags"].get("dagster/parent_run_id") == run["runId"]
    ]
    assert children == []


def test_dagster_accepts_the_files_in_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_celery", reason="it takes the extra dixa-assets[services]")
    for name in ("POSTGRES_URL", "CELERY_BROKER_URL", "CELERY_RESULTS_URL"):
        monkeypatch.setenv(f"DAGSTER_{name}", "postgresql://user@host/database")
    shutil.copy(PROJECT / "deploy" / "dagster.yaml", tmp_path)
    assert InstanceRef.from_dir(str(tmp_path)).run_launcher_data is not None

    instance = yaml.safe_load((PROJECT / "deploy" / "dagster.yaml").read_text())
    classes = [part for part in instance.values() if isinstance(part, dict) and "class" in part]
    assert len(classes) == 4
    for part in classes:
        schema = getattr(import_module(part["module"]), part["class"]).config_type()
        checked = process_config({"config": Field(schema)}, {"config": part.get("config", {})})
        assert checked.success, [error.message for error in checked.errors or ()]

    from dagster_celery.config import DEFAULT_CONFIG

    worker = yaml.safe_load((PROJECT / "deploy" / "celery.yaml").read_text())["execution"]["config"]
    assert worker["config_source"].keys() & DEFAULT_CONFIG.keys() or worker["broker"]


def test_a_kubernetes_job_gets_the_resources_in_deploy() -> None:
    k8s = pytest.importorskip("dagster_k8s.job", reason="it takes the extra dixa-assets[services]")
    values = yaml.safe_load((PROJECT / "deploy" / "kubernetes.yaml").read_text())
    asked = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    taken = k8s.UserDefinedDagsterK8sConfig.from_dict(
        {
            "container_config": asked["containerConfig"],
            "job_spec_config": {"ttl_seconds_after_finished": 7200},
        }
    )
    assert taken.container_config["resources"]["limits"] == {"memory": "2Gi"}
