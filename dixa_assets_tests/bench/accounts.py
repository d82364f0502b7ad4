"""Twenty accounts in one deployment: what the daemon, Postgres and the workers do."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psycopg

from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets_tests.support.cluster import Cluster, running_cluster, wheel_environment
from dixa_assets_tests.support.processes import free_port, wait_until
from dixa_assets_tests.support.services import open_database
from dixa_assets_tests.support.simulator import KEY, running_simulator
from dixa_assets_tests.test_many_machines import assets

ACCOUNTS, DAYS, WORKERS, WATCHED_SECONDS = 20, 7, 4, 120
# One for the catalogue's tables, one for the days.
RUNS_AN_ACCOUNT = 2
INCLUDED = ["csat", "nps", "closed_conversations", "created_conversations", "messages_sent"]
INCLUDED += ["ratings"]
FILES = {
    "pyproject.toml": """
[project]
name = "{package}"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{package}"
""",
    "{package}/__init__.py": "",
    "{package}/definitions.py": """
from functools import cache
from pathlib import Path
import dagster as dg

@dg.definitions
@cache
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
}
DEFS_YAML = """
type: dixa_assets.component.DixaAnalytics
attributes:
  account: {name}
  api_key_variable: DIXA_API_KEY
  base_url: {url}
  duckdb_path: "{path}"
  lake_data: {lake_data}
  pace_url: "{{{{ env('DIXA_PACE_URL') }}}}"
  history_days: {days}
  include: {included}
"""


def in_locations_of(together: int) -> Callable[[Path, bool], Iterator[str]]:
    """The measurement with a number of accounts in each code location."""

    def measure(folder: Path, quick: bool) -> Iterator[str]:
        names = [f"account{number:03}" for number in range(2 if quick else ACCOUNTS)]
        projects = {
            folder / f"accounts{first:03}": names[first : first + together]
            for first in range(0, len(names), together)
        }
        python = wheel_environment(folder / "environment")
        with ExitStack() as stack:
            urls = {
                name: stack.enter_context(running_simulator("--rate", "10", "--burst", "4"))
                for name in names
            }
            path = ":".join(map(str, projects))
            cluster = stack.enter_context(
                running_cluster(
                    folder / "cluster",
                    urls[names[0]],
                    python,
                    PYTHONPATH=path,
                    DIXA_API_KEY=KEY,
                )
            )
            lakes = {name: new_lake(cluster, name) for name in names}
            settings = {
                name: DEFS_YAML.format(
                    name=name, url=urls[name].url, days=DAYS, included=INCLUDED, **lakes[name]
                )
                for name in names
            }
            cluster.code = {
                write_project(project, {name: settings[name] for name in inside}): free_port()
                for project, inside in projects.items()
            }
            rows = [*watched(cluster, lakes)]
        yield "\n".join(
            [f"| {len(names)} accounts, {together} in a code location | |", "|---|---|"]
            + [f"| {what} | {value} |" for what, value in rows]
        )

    return measure


def watched(cluster: Cluster, lakes: Mapping[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Start everything, wait until all days are loaded, then watch the processes at rest."""
    began = time.monotonic()
    cluster.start_all(WORKERS)
    yield "code servers ready", f"{time.monotonic() - began:.0f} s"
    wanted = len(lakes) * len(INCLUDED)
    wait_until(
        lambda: (
            sum("/dixa_metrics/" in key or "/dixa_records/" in key for key in assets(cluster))
            >= wanted
        ),
        what="the assets of all accounts",
    )
    yield "all accounts' assets in the UI", f"{time.monotonic() - began:.0f} s"
    sessions = []

    def loaded() -> bool:
        sessions.append(ticks_and_sessions(cluster)[1])
        done = [run for run in cluster.runs() if run["status"] == "SUCCESS"]
        return len(done) >= RUNS_AN_ACCOUNT * len(lakes)

    wait_until(loaded, seconds=2400, what="the runs of every account")
    yield "all runs done", f"{time.monotonic() - began:.0f} s"
    for name, where in lakes.items():
        days = open_database(where, account=name).inventory().loads
        assert len([day for _, day in days if day]) >= DAYS * len(INCLUDED), name
    runs = [run for run in cluster.runs() if run["endTime"]]
    took = median(run["endTime"] - run["startTime"] for run in runs)
    yield "a run, from its start to its end", f"{took:.0f} s"
    yield "sessions in Postgres, at most", f"{max(sessions)}"
    pids = {name: process.pid for name, process in cluster.processes.items()}
    before = {name: processor_seconds(pid) for name, pid in pids.items()}
    ticks, _ = ticks_and_sessions(cluster)
    time.sleep(WATCHED_SECONDS)
    after, _ = ticks_and_sessions(cluster)
    yield "ticks when all is loaded", f"{60 * (after - ticks) / WATCHED_SECONDS:.0f} a minute"
    for name, pid in pids.items():
        share = (processor_seconds(pid) - before[name]) / WATCHED_SECONDS
        yield name, f"{share:.0%} of a core, {megabytes(pid):.0f} MB"


def new_lake(cluster: Cluster, name: str) -> dict[str, str]:
    """A database in the cluster's Postgres and a folder, as the warehouse's arguments."""
    server = f"host=127.0.0.1 port={cluster.postgres.port} user=postgres"
    with psycopg.connect(f"dbname=postgres {server}", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    data = str(cluster.folder / "shared" / name)
    return {"path": f"{LAKE_SCHEME}dbname={name} {server}", "lake_data": data}


def write_project(project: Path, accounts: Mapping[str, str]) -> str:
    """A project with a component for each account, by its settings; the module of its code."""
    files = dict(FILES)
    files |= {f"{{package}}/defs/{name}/defs.yaml": text for name, text in accounts.items()}
    for name, text in files.items():
        file = project / name.format(package=project.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{package}", project.name))
    return f"{project.name}.definitions"


def ticks_and_sessions(cluster: Cluster) -> tuple[int, int]:
    """The number of ticks that the daemon has taken so far, and Postgres' sessions now."""

    def count(table: str) -> int:
        url = cluster.settings["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
        with psycopg.connect(url) as connection:
            (number,) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
        return int(number[0])

    return count("job_ticks"), count("pg_stat_activity")


def processor_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def megabytes(pid: int) -> float:
    """The memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
