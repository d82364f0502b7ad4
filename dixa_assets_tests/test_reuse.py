"""The installed wheel in projects of other people, as a component and in plain Python."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from dixa_assets_tests.orchestration.test_alert import Chat, running_chat
from dixa_assets_tests.support.graphql import ASSETS, assets_in, start_backfill, until_done
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.projects import write_project
from dixa_assets_tests.support.scenario import days
from dixa_assets_tests.support.simulator import Simulator, running_simulator
from dixa_assets_tests.support.wheels import Environment, output_of, uv

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


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("their own") / "venv")
    uv("venv", "--python", sys.executable, str(environment.venv))
    install = ("pip", "install", "--python", environment.python)
    pinned = ("-c", str(PROJECT / "constraints.txt"))
    uv(*install, *pinned, str(wheel))
    # Loads need no optional dependency.
    output_of([environment.python, "-c", HEADLESS])
    uv(*install, *pinned, f"{wheel}[demo]", "dagster-dg-cli")
    return environment


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
        wait_until(lambda: metrics <= dagster.assets(), what="both catalogues")
        failing = dagster.launch("their_job")
        backfills = {}
        for account, (_, first, last) in ACCOUNTS.items():
            chosen = [f"{account}/dixa_records/ratings", f"{account}/dixa_metrics/csat"]
            chosen += ["daily_mart"] if account == "acme" else []
            wanted = [str(day) for day in days(first, last)]
            backfills[account] = start_backfill(dagster.url, chosen, wanted)
        for account, each in backfills.items():
            until_done(dagster.url, each, what=account)
        wait_until(lambda: dagster.status(failing) == "FAILURE", what="their failure")
        wait_until(lambda: dagster.is_materialized("mart"), what="the eager mart")

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
