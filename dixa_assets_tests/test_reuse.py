"""The installed wheel in projects of other people, as a component and in plain Python."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import duckdb
import pytest

from dixa_assets_tests.orchestration.test_alert import Chat, running_chat
from dixa_assets_tests.support.graphql import ASSETS, assets_in, backfill
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    outside_settings,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.projects import built_wheel, write_project
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.simulator import Simulator, running_simulator

HEADLESS = """
from importlib.util import find_spec
from dixa_assets.component import build_definitions
assert not any(map(find_spec, ("starlette", "uvicorn", "dagster_webserver")))
assert build_definitions().sensors
"""
PLAIN = """
from dixa_assets.component import build_definitions

defs = build_definitions(base_url="{url}", timezone="America/Santiago", start_date="2025-06-01")
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, with the wheel and nothing of this folder."""

    venv: Path

    @property
    def python(self) -> str:
        return str(self.venv / "bin" / "python")

    def dg(self, project: Path, settings: dict[str, str], *arguments: str) -> str:
        """The output of a `dg` command in a project."""
        # `dg` expects an installed package. A path does as well.
        own = settings | {"VIRTUAL_ENV": str(self.venv), "PYTHONPATH": str(project)}
        own["PATH"] = f"{self.venv / 'bin'}:/bin"
        return output_of([str(self.venv / "bin" / "dg"), *arguments], project, own)


def output_of(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(python: str, *arguments: str) -> None:
    output_of([python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("their own") / "venv")
    output_of([sys.executable, "-m", "venv", str(environment.venv)])
    pinned = ("-c", str(PROJECT / "constraints.txt"))
    pip(environment.python, "install", *pinned, str(wheel))
    # Loads need no optional dependency.
    output_of([environment.python, "-c", HEADLESS])
    pip(environment.python, "install", *pinned, f"{wheel}[demo]", "dagster-dg-cli")
    return environment


DOWNSTREAM = """
import json
from pathlib import Path

import dagster as dg
import pandas as pd
from dagster_duckdb import DuckDBResource

assert pd.__version__.startswith("2.2.")
RATINGS = {"ratings": dg.AssetIn(dg.AssetKey(["dixa_records", "ratings"]))}
days = dg.DailyPartitionsDefinition("2025-10-20", timezone="Europe/Copenhagen")
weeks = dg.WeeklyPartitionsDefinition("2025-10-20", timezone="Europe/Copenhagen", day_offset=1)


def keep(name: str, ratings: pd.DataFrame) -> None:
    days = sorted({str(day.date()) for day in ratings.partition_date})
    found = {"days": days, "value": str(ratings.value.dtype), "rows": len(ratings)}
    Path(f"received {name}.json").write_text(json.dumps(found))


@dg.asset(ins=RATINGS, partitions_def=days)
def a_day(context: dg.AssetExecutionContext, ratings: pd.DataFrame) -> None:
    keep(context.partition_key, ratings)


@dg.asset(ins=RATINGS, partitions_def=weeks)
def a_week(context: dg.AssetExecutionContext, ratings: pd.DataFrame) -> None:
    keep(f"week {context.partition_key}", ratings)


@dg.asset(ins=RATINGS)
def all_days(ratings: pd.DataFrame, duckdb: DuckDBResource) -> None:
    keep("all", ratings)
    with duckdb.get_connection() as theirs:
        theirs.execute("CREATE TABLE mine AS FROM ratings")


defs = dg.Definitions(
    assets=[a_day, a_week, all_days],
    resources={"duckdb": DuckDBResource(database="theirs.duckdb")},
)
"""


@pytest.fixture
def new_project(wheel: Path, tmp_path: Path) -> Callable[[str, Path | None], Path]:
    """Makes a project, or clones one, and installs the wheel there, on pandas 2.2."""
    tools = tmp_path / "tools"
    output_of([sys.executable, "-m", "venv", str(tools)])
    pip(f"{tools}/bin/python", "install", "uv", f"create-dagster=={version('dagster')}")
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    index = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    outside = outside_settings("DIXA_", "DAGSTER_", "VIRTUAL_ENV")
    env = outside | {"PATH": f"{tools}/bin:{os.environ['PATH']}"}
    env |= {"UV_DEFAULT_INDEX": index} if index else {}

    def make(name: str, origin: Path | None = None) -> Path:
        project = tmp_path / name
        if origin is None:
            output_of(["create-dagster", "project", name, "--uv-sync"], tmp_path, env)
        else:
            output_of(["git", "clone", "--quiet", str(origin), name], tmp_path, env)
            output_of(["uv", "sync", "--group", "dev"], project, env)
        output_of(["uv", "pip", "install", str(wheel), "pandas<2.3"], project, env)
        return project

    return make


@pytest.mark.slow
def test_a_clone_of_a_new_project_loads_and_gives_frames_to_its_own_assets(
    new_project: Callable[..., Path], simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    origin = new_project("theirs")
    dg_cli = partial(Environment(origin / ".venv").dg, origin, settings)
    name = "dixa_assets.component.DixaAnalytics"
    zone = ["--timezone", "Europe/Copenhagen", "--start-date", "2025-10-20"]
    dg_cli("scaffold", "defs", name, "dixa", *zone)
    defs = origin / "src" / "theirs" / "defs"
    with (defs / "dixa" / "defs.yaml").open("a") as written:
        written.write(f"  base_url: {simulator.url}\n")
    dg_cli("utils", "refresh-defs-state")
    python = Environment(origin / ".venv").python
    output_of([python, "-m", "dixa_assets", "catalogue"], origin, settings)
    (defs / "mine.py").write_text(DOWNSTREAM)
    git = ["git", "-c", "user.name=they", "-c", "user.email=they@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        output_of([*git, *command], origin)

    clone = new_project("a clone", origin)
    own = Environment(clone / ".venv")
    homeless = {each: value for each, value in settings.items() if each != "DAGSTER_HOME"}
    own.dg(clone, homeless, "check", "defs")
    settings |= {"DAGSTER_HOME": str(clone / "home")}
    (clone / "home").mkdir()
    loaded = ["--assets", "dixa_records/ratings", "--partition-range", "2025-10-20...2025-10-22"]
    own.dg(clone, settings, "launch", *loaded)
    port, chosen = free_port(), ["2025-10-25", "2025-10-26"]
    command = ["dagster", "dev", "-m", "theirs.definitions", "-p", str(port)]
    with running(command, settings, tmp_path / "log", python=own.python, cwd=clone):
        url, wanted = f"http://127.0.0.1:{port}", ["a_day", "a_week", "all_days"]
        ready = partial(graphql, url, ASSETS)
        wait_until(lambda: {*wanted} <= assets_in(ready()), seconds=120, what="the assets")
        backfill(url, ["dixa_records/ratings", *wanted], chosen)
    every = [*(f"2025-10-{day}" for day in (20, 21, 22)), *chosen]
    expected = {day: [day] for day in chosen} | {"week 2025-10-20": every, "all": every}
    for received, days_of_it in expected.items():
        found = json.loads((clone / f"received {received}.json").read_text())
        assert (found["days"], found["value"]) == (days_of_it, "Int64")
        assert found["rows"] > 0


@pytest.mark.slow
def test_the_wheel_gives_definitions_in_plain_python(
    environment: Environment, simulator: Simulator, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text(PLAIN.format(url=simulator.url))
    command = ["-m", "dagster", "definitions", "validate", "-f", str(plain)]
    output_of([environment.python, *command], tmp_path, settings_for(simulator, tmp_path))


THEIRS = """
import dagster as dg
from dagster_duckdb import DuckDBResource

RATINGS = dg.AssetKey(["acme", "dixa_records", "ratings"])
days = dg.DailyPartitionsDefinition("2025-01-01", timezone="Europe/Copenhagen")


@dg.asset(deps=[RATINGS], partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def daily_mart(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> None:
    with duckdb.get_connection() as theirs:
        theirs.execute("CREATE TABLE IF NOT EXISTS mart (day VARCHAR)")
        theirs.executemany("INSERT INTO mart VALUES (?)", [[day] for day in context.partition_keys])


EAGER = dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing())


@dg.asset(deps=[RATINGS], automation_condition=EAGER)
def mart() -> None: ...


@dg.asset
def broken() -> None:
    raise ValueError("not an asset of Dixa")


defs = dg.Definitions(
    assets=[daily_mart, mart, broken],
    jobs=[dg.define_asset_job("their_job", selection=[broken])],
    resources={"duckdb": DuckDBResource(database="theirs.duckdb")},
    executor=dg.multiprocess_executor,
    sensors=[
        dg.AutomationConditionSensorDefinition(
            "automation", target="*", default_status=dg.DefaultSensorStatus.RUNNING
        )
    ],
)
"""
ACCOUNTS = {
    "acme": ("Europe/Copenhagen", "2025-10-25", "2025-10-27"),
    "globex": ("America/Santiago", "2025-09-06", "2025-09-08"),
}
KEYS = {account: f"token-of-{account}-5c1e" for account in ACCOUNTS}
WHERE = """{ repositoriesOrError { ... on RepositoryConnection {
  nodes { name location { name } } } } }"""
LAUNCH = """mutation ($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, mode: "default"}) {
    __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""
MATERIALIZED = """{ assetNodes {
  assetKey { path } assetMaterializations(limit: 1) { runId } } }"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""


@dataclass(frozen=True)
class Running:
    """A running Dagster with two accounts, and with assets of other people."""

    url: str
    project: Path
    chat: Chat

    def assets(self) -> set[str]:
        return assets_in(graphql(self.url, ASSETS))

    def launch(self, job: str) -> str:
        """Start a job; its run id."""
        (place,) = graphql(self.url, WHERE)["repositoriesOrError"]["nodes"]
        selector = {
            "jobName": job,
            "repositoryName": place["name"],
            "repositoryLocationName": place["location"]["name"],
        }
        started = graphql(self.url, LAUNCH, selector=selector)["launchRun"]
        assert started["__typename"] == "LaunchRunSuccess", started
        return str(started["run"]["id"])

    def status(self, run: str) -> str:
        return str(graphql(self.url, RUN, id=run)["runOrError"]["status"])

    def is_materialized(self, asset: str) -> bool:
        nodes = graphql(self.url, MATERIALIZED)["assetNodes"]
        return any(
            node["assetKey"]["path"] == [asset] and node["assetMaterializations"] for node in nodes
        )


@contextmanager
def two_accounts(environment: Environment, tmp_path: Path) -> Iterator[Running]:
    """`dagster dev` in a project with a scaffolded component for each account."""
    project = tmp_path / "two accounts"
    package = write_project(project)
    (package / "defs" / "marts.py").write_text(THEIRS)
    with ExitStack() as stack:
        chat = stack.enter_context(running_chat())
        vendors = {
            account: stack.enter_context(running_simulator(key=key))
            for account, key in KEYS.items()
        }
        settings = settings_for(vendors["acme"], tmp_path, DIXA_ALERT_WEBHOOK=chat.url)
        del settings["DIXA_DUCKDB_PATH"], settings["DIXA_API_KEY"], settings["DIXA_BASE_URL"]
        settings |= {f"DIXA_API_KEY_{account.upper()}": key for account, key in KEYS.items()}
        for account, (zone, first, _) in ACCOUNTS.items():
            options = ["--account", account, "--timezone", zone, "--start-date", first]
            options += ["--running", "true"]
            scaffold = ["scaffold", "defs", "dixa_assets.component.DixaAnalytics", account]
            environment.dg(project, settings, *scaffold, *options)
            written = package / "defs" / account / "defs.yaml"
            more = "  history_days: 0\n  catalogue_refresh_seconds: 5\n"
            url = f"  base_url: {vendors[account].url}\n"
            written.write_text(written.read_text() + url + more)
        environment.dg(project, settings, "check", "yaml")

        port = free_port()
        command = ["dagster", "dev", "-m", f"{package.name}.definitions", "-p", str(port)]
        own, log = settings | {"PYTHONPATH": str(project)}, tmp_path / "dagster.log"
        stack.enter_context(running(command, own, log, python=environment.python, cwd=project))
        yield Running(f"http://127.0.0.1:{port}", project, chat)


@pytest.mark.slow
def test_two_accounts_and_assets_of_other_people_work_in_one_project(
    environment: Environment, tmp_path: Path
) -> None:
    metrics = {f"{account}/dixa_metrics/csat" for account in ACCOUNTS}
    with two_accounts(environment, tmp_path) as dagster:
        wait_until(lambda: metrics <= dagster.assets(), seconds=120, what="both catalogues")
        failing = dagster.launch("their_job")
        for account, (_, first, last) in ACCOUNTS.items():
            chosen = [f"{account}/dixa_records/ratings", f"{account}/dixa_metrics/csat"]
            chosen += ["daily_mart"] if account == "acme" else []
            backfill(dagster.url, chosen, [str(day) for day in days(first, last)])
        wait_until(lambda: dagster.status(failing) == "FAILURE", seconds=60, what="their failure")
        wait_until(lambda: dagster.is_materialized("mart"), seconds=90, what="the eager mart")

    for account in ACCOUNTS:
        assert_loaded(dagster.project / "data" / f"{account}.duckdb", account)
    with duckdb.connect(str(dagster.project / "theirs.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM mart").fetchall() == [(3,)]
    # The alert is for assets of Dixa only.
    assert dagster.chat.messages == []
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [key for key in KEYS.values() if key.encode() in content], path


def assert_loaded(database: Path, account: str) -> None:
    """The database holds the account's three days, in its zone."""
    zone, first, last = ACCOUNTS[account]
    with duckdb.connect(str(database)) as connection:
        for table in ("dixa_records.ratings", "dixa_metrics.csat"):
            found = connection.execute(
                f"SELECT count(DISTINCT partition_date), min(partition_date)::VARCHAR, "
                f"max(partition_date)::VARCHAR FROM {table}"
            )
            assert found.fetchall() == [(3, first, last)]
        owner = connection.execute("SELECT account, timezone FROM dixa_catalogue.warehouse")
        assert owner.fetchall() == [(account, zone)]
