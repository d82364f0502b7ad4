"""A deployment on many machines: each process has its own home, its own folders and the wheel."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import yaml

from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.processes import (
    LONGEST_WAIT_SECONDS,
    PROJECT,
    free_port,
    outside_settings,
    post,
    wait_until,
)
from dixa_assets_tests.support.services import (
    OwnServer,
    answers,
    open_database,
    own_postgres,
    own_redis,
)
from dixa_assets_tests.support.simulator import KEY, Simulator
from dixa_assets_tests.support.wheels import built_wheel, output_of, pip

RUNS = """{ runsOrError(limit: 200) { ... on Runs { results {
  runId status startTime endTime tags { key value } } } } }"""


@dataclass
class Cluster:
    """The processes of a deployment, their folder and their servers."""

    folder: Path
    python: Path
    simulator: Simulator
    postgres: OwnServer
    redis: OwnServer
    settings: dict[str, str]
    web_port: int = field(default_factory=free_port)
    # Each code location's port, by its module.
    code: dict[str, int] = field(default_factory=lambda: {"dixa_assets.definitions": free_port()})
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def lake(self) -> dict[str, str]:
        """The lake, as the warehouse's arguments."""
        names = {"path": "DIXA_DUCKDB_PATH", "lake_data": "DIXA_LAKE_DATA"}
        return {key: self.settings[name] for key, name in names.items()}

    def warehouse(self) -> Warehouse:
        return open_database(self.lake)

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer; None while the webserver or its database is away."""
        answer = post(self.url, query, variables)
        return answer.json()["data"] if answer and answer.is_success else None

    def start(self, name: str, *command: str) -> None:
        """A process on a machine of its own, which has the files of `deploy/` and nothing else."""
        home = self.folder / name
        (home / "dagster").mkdir(parents=True, exist_ok=True)
        (home / "tmp").mkdir(exist_ok=True)
        shared = self.folder / "shared"
        for file in ("dagster.yaml", "celery.yaml"):
            text = (PROJECT / "deploy" / file).read_text().replace("/shared", str(shared))
            (home / "dagster" / file).write_text(text)
        workspace = yaml.safe_load((PROJECT / "deploy" / "workspace.yaml").read_text())
        (server,) = workspace["load_from"]
        shared_server = server["grpc_server"] | {"host": "127.0.0.1"}
        workspace["load_from"] = [
            {"grpc_server": shared_server | {"port": port, "location_name": module.split(".")[0]}}
            for module, port in self.code.items()
        ]
        (home / "dagster" / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        own = {"HOME": home, "TMPDIR": home / "tmp", "DAGSTER_HOME": home / "dagster"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(self.python), *command],
                env=self.settings | {key: str(value) for key, value in own.items()},
                cwd=home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self, workers: int) -> None:
        # Processes that start together on an empty database make each other fail.
        self.start("migrate", "-m", "dagster", "instance", "migrate")
        assert self.processes.pop("migrate").wait(timeout=LONGEST_WAIT_SECONDS) == 0
        server = ("-m", "dagster", "code-server", "start", "-h", "127.0.0.1")
        for number, (module, port) in enumerate(self.code.items()):
            self.start(f"code{number or ''}", *server, "-p", str(port), "-m", module)
        for port in self.code.values():
            wait_until(partial(answers, port), what="a code server")
        workspace = ("-w", "dagster/workspace.yaml")
        self.start("web", "-m", "dagster_webserver", "-p", str(self.web_port), *workspace)
        self.start("daemon", "-m", "dagster._daemon", "run", *workspace)
        for number in range(workers):
            self.start_worker(f"w{number + 1}")

    def start_worker(self, name: str) -> None:
        run = "from dagster_celery.cli import main; main()"
        options = f"-A dagster_celery.app -y dagster/celery.yaml -n {name} -- --concurrency=1"
        self.start(name, "-c", run, "worker", "start", *options.split())

    def kill(self, name: str) -> None:
        """Kill a process and its children."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def runs(self, backfill: str = "") -> list[dict[str, Any]]:
        """All runs, or the runs of a backfill, with their tags as a dictionary."""
        data = self.ask(RUNS)
        found = data["runsOrError"]["results"] if data else []
        for run in found:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return [run for run in found if backfill in ("", run["tags"].get("dagster/backfill"))]

    def holder(self, run: dict[str, Any]) -> str:
        """The worker that has a run; empty if none has it yet."""
        from celery import Celery

        app = Celery(
            broker=self.settings["DAGSTER_CELERY_BROKER_URL"],
            backend=self.settings["DAGSTER_CELERY_RESULTS_URL"],
        )
        with app:
            info = app.AsyncResult(run["tags"].get("dagster-celery/task_id", "none")).info
        return str(info["hostname"]).split("@")[0] if isinstance(info, dict) else ""


@contextmanager
def running_cluster(
    folder: Path, simulator: Simulator, python: Path, **settings: str
) -> Iterator[Cluster]:
    """Servers and settings; the processes that a test starts end with the block."""
    with own_postgres() as postgres, own_redis(folder / "redis") as redis:
        server = f"postgres@127.0.0.1:{postgres.port}"
        with psycopg.connect(f"postgresql://{server}/postgres", autocommit=True) as connection:
            for name in ("dagster", "dixa_lake"):
                connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        outside = outside_settings("DIXA_", "DAGSTER_", "PYTHON")
        dsn = f"dbname=dixa_lake host=127.0.0.1 port={postgres.port} user=postgres"
        own = {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "DIXA_API_KEY": KEY,
            "DIXA_BASE_URL": simulator.url,
            "DIXA_DUCKDB_PATH": f"{LAKE_SCHEME}{dsn}",
            "DIXA_LAKE_DATA": str(folder / "shared" / "lake"),
            "DIXA_PACE_URL": f"postgresql://{server}/dixa_lake",
            "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://{server}/dagster",
            "DAGSTER_CELERY_BROKER_URL": f"redis://127.0.0.1:{redis.port}/0",
            "DAGSTER_CELERY_RESULTS_URL": f"redis://127.0.0.1:{redis.port}/1",
            "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
        }
        cluster = Cluster(folder, python, simulator, postgres, redis, outside | own | settings)
        try:
            yield cluster
        finally:
            for process in cluster.processes.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            for process in cluster.processes.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=max(deadline - time.monotonic(), 0.1))
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wheel_environment(folder: Path) -> Path:
    """A Python with the project as a wheel and all other packages of this environment."""
    wheels = folder / "wheels"
    wheels.mkdir()
    output_of([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    pip(sys.executable, "install", "--no-deps", "--target", str(site), str(built_wheel(wheels)))
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "others.pth").write_text(f"{here}\n")
    python = folder / "venv" / "bin" / "python"
    # dagster-celery starts a worker by this name.
    celery = python.with_name("celery")
    celery.write_text(f"#!{python}\nfrom celery.__main__ import main\nmain()\n")
    celery.chmod(0o755)
    return python
