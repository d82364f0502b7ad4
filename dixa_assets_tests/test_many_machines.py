"""Several machines with the wheel and the files in `deploy/`: workers die, servers restart."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import Field
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef

from dixa_assets_tests.support.cluster import Cluster, running_cluster, wheel_environment
from dixa_assets_tests.support.graphql import ASSETS, BACKFILL, BACKFILL_STATUS, assets_in
from dixa_assets_tests.support.processes import PROJECT, wait_until
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.services import own_redis
from dixa_assets_tests.support.simulator import Simulator

pytestmark = pytest.mark.services

DEPLOY = PROJECT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))

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
            cwd=folder, start_new_session=True, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            with celery.Celery(broker=url, backend=url) as app:
                result = app.send_task("sleeper.sleep", queue="dagster")
                wait_until(lambda: result.state == "STARTED", seconds=60, what="the task")
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
            wait_until(lambda: result.state == "REVOKED", seconds=30, what="the end of the run")


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


def test_dagster_accepts_the_files_in_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_celery", reason="it takes the extra dixa-assets[services]")
    for name in ("POSTGRES_URL", "CELERY_BROKER_URL", "CELERY_RESULTS_URL"):
        monkeypatch.setenv(f"DAGSTER_{name}", "postgresql://user@host/database")
    shutil.copy(DEPLOY / "dagster.yaml", tmp_path)
    assert InstanceRef.from_dir(str(tmp_path)).run_launcher_data is not None

    instance = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    classes = [part for part in instance.values() if isinstance(part, dict) and "class" in part]
    assert len(classes) == 4
    assert "concurrency" not in instance, "it would override the limit of the run coordinator"
    for part in classes:
        schema = getattr(import_module(part["module"]), part["class"]).config_type()
        checked = process_config({"config": Field(schema)}, {"config": part.get("config", {})})
        assert checked.success, [error.message for error in checked.errors or ()]

    from dagster_celery.config import DEFAULT_CONFIG

    worker = yaml.safe_load((DEPLOY / "celery.yaml").read_text())["execution"]["config"]
    assert worker["config_source"].keys() & DEFAULT_CONFIG.keys() or worker["broker"]


def test_a_kubernetes_job_gets_the_settings_in_deploy() -> None:
    pytest.importorskip("dagster_k8s", reason="it takes the extra dixa-assets[services]")
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
    from kubernetes import client

    values = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    asked = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    container, pod, job = (
        k8s_model_from_dict(kind, k8s_snake_case_dict(kind, part | needed))
        for kind, part, needed in (
            (client.V1Container, asked["containerConfig"], {"name": "run"}),
            (client.V1PodSpec, asked["podSpecConfig"], {"containers": []}),
            (client.V1JobSpec, asked["jobSpecConfig"], {"template": {}}),
        )
    )
    assert container.resources.limits == {"memory": "2Gi"}
    assert container.security_context.allow_privilege_escalation is False
    assert container.security_context.read_only_root_filesystem is True
    assert pod.security_context.run_as_user == 10001
    assert job.ttl_seconds_after_finished == 7200


def test_every_pod_is_hardened_and_only_two_kinds_reach_the_code_server() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    (code,) = values["dagster-user-deployments"]["deployments"]
    for pod in (code, values["dagsterWebserver"], values["dagsterDaemon"]):
        assert pod["podSecurityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    policy = yaml.safe_load((DEPLOY / "network-policy.yaml").read_text())["spec"]
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    (who,) = peer["podSelector"]["matchExpressions"]
    assert policy["podSelector"]["matchLabels"] == {"component": "user-deployments"}
    assert who["values"] == ["dagster-webserver", "dagster-daemon"]
    assert rule["ports"] == [{"protocol": "TCP", "port": code["port"]}]


def test_every_container_is_hardened_and_waits_for_a_healthy_database() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].split(":")[0]) > 0
    assert services["tables"]["depends_on"]["db"] == {"condition": "service_healthy"}
    assert {name for name, each in services.items() if "code" in each["networks"]} == {
        *("code", "webserver", "daemon"),
    }
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"]
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text()

    slots = services["worker"]["deploy"]["replicas"] * int(
        services["worker"]["command"].partition("--concurrency=")[2]
    )
    coordinator = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["run_coordinator"]
    assert coordinator["config"]["max_concurrent_runs"] == slots


def test_a_shell_reads_the_environment_file_as_systemd_does() -> None:
    file = DEPLOY / "env.example"
    script = f"set -a; . {shlex.quote(str(file))}; env"
    shell = subprocess.run(
        ["/usr/bin/env", "-i", "/bin/sh", "-ec", script], check=True, capture_output=True, text=True
    )
    read = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    written = {}
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            written[name] = value.strip('"')
    assert written.items() <= read.items()
    assert read["DIXA_DUCKDB_PATH"].endswith("user=dixa")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_hardened(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=29", "--no-pager", unit],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Wants=network-online.target" in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_with_its_own_environment(unit: Path, tmp_path: Path) -> None:
    """The command of the unit, with the lines `Environment=` and nothing else."""
    pytest.importorskip("dagster_celery", reason="it takes the extra dixa-assets[services]")
    text = unit.read_text().replace("/opt/dixa", sys.prefix).replace("/var/lib/dixa", str(tmp_path))
    lines = [line.partition("=")[::2] for line in text.replace("%i", "1").splitlines()]
    (command,) = (shlex.split(value) for name, value in lines if name == "ExecStart")
    own = [value for name, value in lines if name == "Environment"]
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(DEPLOY / "celery.yaml", home)
    sign = "Usage:"
    if "worker" in unit.stem:
        # No server answers on port 1, which the worker says when it has started.
        own += [
            f"DAGSTER_CELERY_{name}_URL=redis://127.0.0.1:1/0" for name in ("BROKER", "RESULTS")
        ]
        sign = "Cannot connect to redis://127.0.0.1:1/0"
    else:
        command.append("--help")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/usr/bin/env", "-i", *own, f"DAGSTER_HOME={home}", *command],
            cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: sign in log.read_text(), seconds=60, what=f"the start of {unit.name}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
