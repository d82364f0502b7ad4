"""The project in somebody else's: as a component, and in plain Python, from an installed wheel."""

import json
import subprocess
import sys
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from dixa_assets.component import build_definitions
from dixa_assets_tests.orchestration.test_alert import running_chat
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.simulator import Simulator, running_simulator
from dixa_assets_tests.test_end_to_end import BACKFILL, BACKFILL_STATUS

PYPROJECT = """
[project]
name = "theirs"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "theirs"
code_location_name = "theirs"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
DEFS_YAML = """
type: dixa_assets.component.DixaAnalytics
attributes:
  base_url: {url}
  timezone: America/Santiago
  start_date: "2025-06-01"
  duckdb_path: theirs.duckdb
  owners: ["team:support-analytics"]
"""
HEADLESS = """
from importlib.util import find_spec
from dixa_assets.component import build_definitions
assert not any(map(find_spec, ("plotly", "starlette", "uvicorn", "dagster_webserver")))
assert build_definitions().sensors
"""
PLAIN = """
from dixa_assets.component import build_definitions

defs = build_definitions(base_url="{url}", timezone="America/Santiago", start_date="2025-06-01")
"""


def test_plain_python_gives_what_the_stored_catalogue_says(
    simulator: Simulator, tmp_path: Path
) -> None:
    analytics = component(simulator, tmp_path)
    empty = build_definitions(base_url=simulator.url)
    assert [sensor.name for sensor in empty.sensors or ()] == ["dixa_catalogue"]
    with dg.instance_for_test() as instance:
        storage = instance.defs_state_storage
        assert storage is not None
        state = tmp_path / "state"
        state.write_text(fetched(analytics).to_json())
        storage.upload_state_from_path(analytics.defs_state_config.key, "a-version", state)
        with set_defs_state_storage(storage):
            full = build_definitions(base_url=simulator.url, owners=["team:support"])
    graph = full.resolve_asset_graph()
    node = graph.get(dg.AssetKey(["dixa_metrics", "csat"]))
    assert node.owners == ["team:support"]
    assert dg.AssetKey(["dixa_records", "ratings"]) in graph.get_all_asset_keys()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the built wheel and nothing of this folder."""
    folder = tmp_path_factory.mktemp("their own")
    done = pip(sys.executable, "wheel", "--no-deps", "-w", str(folder), str(PROJECT))
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (wheel,) = folder.glob("*.whl")
    python = str(folder / "venv" / "bin" / "python")
    pinned = ("-c", str(PROJECT / "constraints.txt"))
    done = pip(python, "install", *pinned, str(wheel))
    assert done.returncode == 0, done.stderr
    # What loads need is enough to load.
    done = subprocess.run([python, "-c", HEADLESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = pip(python, "install", *pinned, f"{wheel}[demo]", "dagster-dg-cli")
    assert done.returncode == 0, done.stderr
    return folder


def pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def dg_cli(folder: Path, settings: dict[str, str], *arguments: str, of: Path | None = None) -> str:
    """What a `dg` command says in their project."""
    venv, project = folder / "venv", of or folder / "project"
    # Their package is on the path, as it is where it is installed.
    own = settings | {"VIRTUAL_ENV": str(venv), "PYTHONPATH": str(project)}
    own["PATH"] = f"{venv / 'bin'}:/bin"
    done = subprocess.run(
        [str(venv / "bin" / "dg"), *arguments],
        cwd=project, env=own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_is_a_component_in_an_empty_project_elsewhere(
    theirs: Path, simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    project = theirs / "project"
    (project / "theirs" / "defs" / "dixa").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "theirs" / "__init__.py").touch()
    (project / "theirs" / "definitions.py").write_text(DEFINITIONS)
    (project / "theirs" / "defs" / "dixa" / "defs.yaml").write_text(
        DEFS_YAML.format(url=simulator.url)
    )
    offered = json.loads(dg_cli(theirs, settings, "list", "components", "--json"))
    (offer,) = (one for one in offered["items"] if one["key"].startswith("dixa_assets."))
    assert offer["key"] == "dixa_assets.component.DixaAnalytics"
    assert "daily-partitioned" in offer["summary"]

    dg_cli(theirs, settings, "check", "yaml")
    dg_cli(theirs, settings, "utils", "refresh-defs-state")
    listed = json.loads(dg_cli(theirs, settings, "list", "defs", "--json"))
    assets = {asset["asset_key"] for asset in listed["assets"]}
    assert {"dixa_metrics/csat", "dixa_records/ratings", "dixa/metrics_daily"} <= assets

    dg_cli(
        theirs, settings, "launch", "--assets", "key:dixa_metrics/csat", "--partition", "2025-11-05"
    )
    python = str(theirs / "venv" / "bin" / "python")
    sql = "SELECT timezone FROM dixa_metrics.csat"
    ask = f"import duckdb; print(duckdb.connect('theirs.duckdb').sql('{sql}').fetchall())"
    done = subprocess.run(
        [python, "-c", ask], cwd=project, capture_output=True, text=True, check=True
    )
    assert "America/Santiago" in done.stdout


@pytest.mark.slow
def test_the_wheel_gives_definitions_in_plain_python_elsewhere(
    theirs: Path, simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings_for(simulator, tmp_path)
    plain = tmp_path / "plain.py"
    plain.write_text(PLAIN.format(url=simulator.url))
    done = subprocess.run(
        [str(theirs / "venv" / "bin" / "dagster"), "definitions", "validate", "-f", str(plain)],
        cwd=tmp_path, env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


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
    raise ValueError("somebody else's")


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
WHERE = """{ repositoriesOrError { ... on RepositoryConnection {
  nodes { name location { name } } } } }"""
LAUNCH = """mutation ($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, mode: "default"}) {
    __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""


@pytest.mark.slow
def test_two_accounts_live_beside_other_peoples_assets_in_a_real_project(
    theirs: Path, tmp_path: Path
) -> None:
    project = theirs / "two accounts"
    (project / "theirs" / "defs").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "theirs" / "__init__.py").touch()
    (project / "theirs" / "definitions.py").write_text(DEFINITIONS)
    (project / "theirs" / "defs" / "marts.py").write_text(THEIRS)
    keys = {account: f"token-of-{account}-5c1e" for account in ACCOUNTS}
    with ExitStack() as stack:
        chat = stack.enter_context(running_chat())
        home = stack.enter_context(running_simulator(key=keys["acme"]))
        settings = settings_for(home, tmp_path) | {"DIXA_ALERT_WEBHOOK": chat.url}
        del settings["DIXA_DUCKDB_PATH"], settings["DIXA_API_KEY"], settings["DIXA_BASE_URL"]
        settings |= {f"DIXA_API_KEY_{account.upper()}": key for account, key in keys.items()}
        for account, (zone, first, _) in ACCOUNTS.items():
            vendor = home
            if account != "acme":
                vendor = stack.enter_context(running_simulator(key=keys[account]))
            options = ["--account", account, "--timezone", zone, "--start-date", first]
            component = "dixa_assets.component.DixaAnalytics"
            dg_cli(theirs, settings, "scaffold", "defs", component, account, *options, of=project)
            written = project / "theirs" / "defs" / account / "defs.yaml"
            more = f"  base_url: {vendor.url}\n  history_days: 0\n  catalogue_refresh_seconds: 5\n"
            written.write_text(written.read_text() + more)
        dg_cli(theirs, settings, "check", "yaml", of=project)

        port, python = free_port(), theirs / "venv" / "bin" / "python"
        command = ["dagster", "dev", "-m", "theirs.definitions", "-p", str(port)]
        own = settings | {"PYTHONPATH": str(project)}
        log = tmp_path / "dagster.log"
        stack.enter_context(running(command, own, log, python=str(python), cwd=project))
        url = f"http://127.0.0.1:{port}"

        def has_assets() -> bool:
            found = graphql(url, "{ assetNodes { assetKey { path } } }")
            paths = [node["assetKey"]["path"] for node in found["assetNodes"]] if found else []
            return {
                account for account in ACCOUNTS if [account, "dixa_metrics", "csat"] in paths
            } == set(ACCOUNTS)

        wait_until(has_assets, seconds=120, what="both catalogues as assets")

        (place,) = graphql(url, WHERE)["repositoriesOrError"]["nodes"]
        selector = {
            "jobName": "their_job",
            "repositoryName": place["name"],
            "repositoryLocationName": place["location"]["name"],
        }
        failing = graphql(url, LAUNCH, selector=selector)["launchRun"]
        assert failing["__typename"] == "LaunchRunSuccess", failing
        for account, (_, first, last) in ACCOUNTS.items():
            chosen = [[account, "dixa_records", "ratings"], [account, "dixa_metrics", "csat"]]
            chosen += [["daily_mart"]] if account == "acme" else []
            days = [
                (date.fromisoformat(first) + timedelta(days=number)).isoformat()
                for number in range(3)
            ]
            assert days[-1] == last
            backfill(url, chosen, days)

        their_run = failing["run"]["id"]
        assert graphql(url, RUN, id=their_run)["runOrError"]["status"] == "FAILURE"

        def has_mart() -> bool:
            asked = "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }"
            nodes = graphql(url, asked)["assetNodes"]
            return any(
                node["assetKey"]["path"] == ["mart"] and node["assetMaterializations"]
                for node in nodes
            )

        wait_until(has_mart, seconds=90, what="the mart that waits for new ratings")

    for account, (zone, first, last) in ACCOUNTS.items():
        with duckdb.connect(str(project / "data" / f"{account}.duckdb")) as connection:
            for table in ("dixa_records.ratings", "dixa_metrics.csat"):
                found = connection.execute(
                    f"SELECT count(DISTINCT partition_date), min(partition_date)::VARCHAR, "
                    f"max(partition_date)::VARCHAR FROM {table}"
                ).fetchone()
                assert found == (3, first, last)
            zones = connection.execute("SELECT DISTINCT timezone FROM dixa_metrics.csat").fetchall()
            assert zones == [(zone,)]
            whose = connection.execute("SELECT account FROM dixa_catalogue.warehouse").fetchall()
            assert whose == [(account,)]
    with duckdb.connect(str(project / "theirs.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM mart").fetchall() == [(3,)]
    assert chat.lines == []
    for path in (*project.rglob("*"), *tmp_path.rglob("*")):
        if path.is_file():
            text = path.read_bytes()
            assert not [key for key in keys.values() if key.encode() in text], path


def backfill(url: str, keys: list[list[str]], days: list[str]) -> None:
    """A backfill as the UI starts it, to its end."""
    started = graphql(
        url, BACKFILL, keys=[{"path": key} for key in keys], days=days
    )["launchPartitionBackfill"]  # fmt: skip

    def has_ended() -> bool:
        status = graphql(url, BACKFILL_STATUS, id=started["backfillId"])
        return status["partitionBackfillOrError"]["status"] == "COMPLETED_SUCCESS"

    wait_until(has_ended, seconds=240, what=f"the backfill of {keys}")
