"""The files in `deploy/`: Dagster, a shell and systemd accept them, and they are hardened."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from dagster import Field
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef

from dixa_assets_tests.support.processes import PROJECT, wait_until

DEPLOY = PROJECT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


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
        url = "redis://127.0.0.1:1/0"
        own += [f"DAGSTER_CELERY_BROKER_URL={url}", f"DAGSTER_CELERY_RESULTS_URL={url}"]
        sign = "Cannot connect to redis://"
    else:
        command.append("--help")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/usr/bin/env", "-i", *own, f"DAGSTER_HOME={home}", *command],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: sign in log.read_text(), what=f"the start of {unit.name}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
