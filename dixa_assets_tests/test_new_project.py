"""The wheel in a new project of `create-dagster`, from the clone to a backfill."""

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from dixa_assets_tests.support.graphql import ASSETS, assets_in, backfill
from dixa_assets_tests.support.processes import (
    free_port,
    graphql,
    outside_settings,
    running,
    settings_for,
    wait_until,
)
from dixa_assets_tests.support.simulator import Simulator
from dixa_assets_tests.support.wheels import Environment, index_of_pip, output_of, uv

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
    uv("venv", "--python", sys.executable, str(tools))
    wanted = f"create-dagster=={version('dagster')}"
    uv("pip", "install", "--python", f"{tools}/bin/python", "uv", wanted)
    env = outside_settings("DIXA_", "DAGSTER_", "VIRTUAL_ENV") | index_of_pip()
    env["PATH"] = f"{tools}/bin:{env['PATH']}"

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
        wait_until(lambda: {*wanted} <= assets_in(ready()), what="the assets")
        backfill(url, ["dixa_records/ratings", *wanted], chosen)
    every = [*(f"2025-10-{day}" for day in (20, 21, 22)), *chosen]
    expected = {day: [day] for day in chosen} | {"week 2025-10-20": every, "all": every}
    for received, days_of_it in expected.items():
        found = json.loads((clone / f"received {received}.json").read_text())
        assert (found["days"], found["value"]) == (days_of_it, "Int64")
        assert found["rows"] > 0
