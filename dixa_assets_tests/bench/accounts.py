"""Measures twenty accounts in one deployment: what the daemon, Postgres and the workers do.

`python -m dixa_assets_tests.bench.accounts` prints its figures. It takes the extra `services`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg

from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets_tests.support.cluster import Cluster, running_cluster, wheel_environment
from dixa_assets_tests.support.processes import free_port, wait_until
from dixa_assets_tests.support.services import open_lake
from dixa_assets_tests.support.simulator import KEY, running_simulator
from dixa_assets_tests.test_many_machines import assets

DAYS, WORKERS, WATCHED_SECONDS = 7, 4, 120
# One for the catalogue's tables, one for the days.
RUNS_AN_ACCOUNT = 2
METRICS = ("csat", "nps", "closed_conversations", "created_conversations", "messages_sent")
INCLUDED = (*METRICS, "ratings")
PYPROJECT = """
[project]
name = "{package}"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{package}"
"""
DEFINITIONS = """
from functools import cache
from pathlib import Path
import dagster as dg

@dg.definitions
@cache
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
DEFS_YAML = """
type: dixa_assets.component.DixaAnalytics
attributes:
  account: {name}
  api_key_variable: DIXA_API_KEY
  base_url: {url}
  duckdb_path: "{lake}"
  lake_data: {data}
  pace_url: "{{{{ env('DIXA_PACE_URL') }}}}"
  history_days: {days}
  include: {included}
"""


def ticks_and_connections(cluster: Cluster) -> tuple[int, int]:
    """Ticks that the daemon has taken so far, and Postgres' sessions now."""
    with psycopg.connect(cluster.settings["DIXA_PACE_URL"]) as connection:
        sessions = connection.execute("SELECT count(*) FROM pg_stat_activity").fetchone()
    url = cluster.settings["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
    with psycopg.connect(url) as connection:
        ticks = connection.execute("SELECT count(*) FROM job_ticks").fetchone()
    assert sessions
    assert ticks
    return int(ticks[0]), int(sessions[0])


def processor_seconds(pid: int) -> float:
    """What a process has had of the processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def megabytes(pid: int) -> float:
    """A process' memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_project(project: Path, accounts: Mapping[str, str]) -> str:
    """A project with a component for each account, by its settings; the module of its code."""
    package = project.name
    (project / package / "defs").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT.format(package=package))
    (project / package / "__init__.py").touch()
    (project / package / "definitions.py").write_text(DEFINITIONS)
    for name, settings in accounts.items():
        (project / package / "defs" / name).mkdir()
        (project / package / "defs" / name / "defs.yaml").write_text(settings)
    return f"{package}.definitions"


def measure(folder: Path, accounts: int, together: int) -> None:
    python = wheel_environment(folder / "environment")
    names = [f"account{number:03}" for number in range(accounts)]
    projects = {
        folder / f"accounts{first:03}": names[first : first + together]
        for first in range(0, accounts, together)
    }
    with ExitStack() as stack:
        simulators = [
            stack.enter_context(running_simulator("--rate", "10", "--burst", "4")) for _ in names
        ]
        cluster = stack.enter_context(
            running_cluster(
                folder / "cluster", simulators[0], python,
                PYTHONPATH=":".join(map(str, projects)), DIXA_API_KEY=KEY,
            )
        )  # fmt: skip
        lakes, settings = {}, {}
        server = f"host=127.0.0.1 port={cluster.postgres.port} user=postgres"
        with psycopg.connect(f"dbname=postgres {server}", autocommit=True) as connection:
            for name, simulator in zip(names, simulators, strict=True):
                connection.execute(f"CREATE DATABASE {name}".encode())
                address = f"{LAKE_SCHEME}dbname={name} {server}"
                data = folder / "cluster" / "shared" / name
                lakes[name] = {"path": address, "lake_data": str(data)}
                settings[name] = DEFS_YAML.format(
                    name=name, url=simulator.url, lake=address, data=data, days=DAYS,
                    included=[*INCLUDED],
                )  # fmt: skip
        cluster.code = {
            write_project(project, {name: settings[name] for name in inside}): free_port()
            for project, inside in projects.items()
        }
        began = time.monotonic()
        cluster.start_all(WORKERS)
        print(f"{len(projects)} code servers ready in {time.monotonic() - began:.1f} s", flush=True)
        wanted = accounts * len(INCLUDED)
        wait_until(
            lambda: sum("/dixa_metrics/" in each or "/dixa_records/" in each
                        for each in assets(cluster)) >= wanted,
            seconds=600, what="the assets of all accounts",
        )  # fmt: skip
        print(f"{wanted}+ assets after {time.monotonic() - began:.1f} s", flush=True)
        most = 0

        def loaded() -> bool:
            nonlocal most
            most = max(most, ticks_and_connections(cluster)[1])
            return len([run for run in cluster.runs() if run["status"] == "SUCCESS"]) >= (
                RUNS_AN_ACCOUNT * accounts
            )

        wait_until(loaded, seconds=2400, what="the runs of every account")
        seconds = time.monotonic() - began
        for name, where in lakes.items():
            days = open_lake(where, account=name).loaded()
            assert len([day for _, day in days if day]) >= DAYS * len(INCLUDED), name
        runs = [run for run in cluster.runs() if run["endTime"]]
        took = statistics.median(run["endTime"] - run["startTime"] for run in runs)
        print(f"{len(runs)} runs, the median {took:.0f} s from start to end")
        print(f"{accounts} accounts x {len(INCLUDED)} assets x {DAYS} days: {seconds:.0f} s")
        print(f"at most {most} sessions in Postgres", flush=True)
        pids = {name: process.pid for name, process in cluster.processes.items()}
        before = {name: processor_seconds(pid) for name, pid in pids.items()}
        ticks, _ = ticks_and_connections(cluster)
        time.sleep(WATCHED_SECONDS)
        after, sessions = ticks_and_connections(cluster)
        print(f"at rest: {60 * (after - ticks) / WATCHED_SECONDS:.0f} ticks a minute, "
              f"{sessions} sessions")  # fmt: skip
        for name, pid in pids.items():
            share = (processor_seconds(pid) - before[name]) / WATCHED_SECONDS
            print(f"  {name}: {share:.0%} of a core, {megabytes(pid):.0f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dixa_assets_tests.bench.accounts")
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--together", type=int, default=1, help="accounts in a code location")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="accounts-") as folder:
        measure(Path(folder), options.accounts, options.together)
    return 0


if __name__ == "__main__":
    sys.exit(main())
