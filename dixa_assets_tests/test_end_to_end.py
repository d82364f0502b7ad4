"""The product as its users run it: real Dagster processes over a simulated Dixa."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from dixa_assets.component import DixaAnalytics
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.graphql import ASSETS, assets_in, backfill
from dixa_assets_tests.support.processes import (
    PROJECT,
    free_port,
    graphql,
    run,
    running,
    settings_for,
    store_catalogue,
    wait_until,
)
from dixa_assets_tests.support.simulator import KEY, Simulator

pytestmark = pytest.mark.slow

DAYS = "{ assetNodes { assetKey { path } partitionStats { numMaterialized } } }"


@dataclass(frozen=True)
class Dagster:
    """A running `dagster dev`: the address of its UI, its database and its folder."""

    url: str
    database: Path
    folder: Path

    def assets(self) -> set[str]:
        return assets_in(graphql(self.url, ASSETS))

    def days(self) -> dict[str, int]:
        """The number of materialized days of each asset that has days."""
        data = graphql(self.url, DAYS)
        return {
            "/".join(node["assetKey"]["path"]): node["partitionStats"]["numMaterialized"]
            for node in (data["assetNodes"] if data else ())
            if node["partitionStats"]
        }

    def query(self, sql: str) -> Any:
        return DixaAnalytics(duckdb_path=str(self.database)).build_warehouse().query(sql)


@pytest.fixture(scope="module")
def dagster_dev(
    simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dagster]:
    """`dagster dev` with a simulator in real time."""
    simulator_process.tell("reset")
    folder = tmp_path_factory.mktemp("dev")
    port = free_port()
    settings = settings_for(
        simulator_process, folder, DIXA_CATALOGUE_REFRESH_SECONDS="5", DIXA_HISTORY_DAYS="2"
    )
    command = ["dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-p", str(port)]
    with running(command, settings, folder / "log"):
        yield Dagster(f"http://127.0.0.1:{port}", folder / "dixa.duckdb", folder)


def test_assets_and_their_days_appear_without_any_action(dagster_dev: Dagster) -> None:
    expected = {f"dixa_metrics/{name}" for name in METRICS}
    expected |= {f"dixa_records/{name}" for name in RECORDS}
    wait_until(
        lambda: dagster_dev.days() == dict.fromkeys(expected, 2),
        what="two days of every metric and record",
    )
    loaded = dagster_dev.query("SELECT count(DISTINCT metric) AS n FROM dixa.metrics_daily")
    assert loaded.n[0] == len(METRICS)
    report = dagster_dev.database.with_name("dixa_report.html")
    wait_until(report.exists, what="the report of what was loaded")
    assert 'id="records.ratings"' in report.read_text()


def test_a_week_across_a_clock_change_is_backfilled_from_the_ui(
    dagster_dev: Dagster, world: World
) -> None:
    keys = ["dixa_metrics/closed_conversations", "dixa_records/closed_conversations"]
    days = [(date(2025, 10, 22) + timedelta(days=number)).isoformat() for number in range(7)]
    wait_until(lambda: set(keys) <= dagster_dev.assets(), what="the assets")
    backfill(dagster_dev.url, keys, days)
    long_day = {
        "start": datetime(2025, 10, 25, 22, tzinfo=UTC),
        "end": datetime(2025, 10, 26, 23, tzinfo=UTC),
        "now": datetime.now(UTC),
    }
    found = dagster_dev.query(
        "SELECT (SELECT count(*) FROM dixa_records.closed_conversations "
        "WHERE partition_date = '2025-10-26') AS records, "
        "(SELECT value FROM dixa_metrics.closed_conversations "
        "WHERE partition_date = '2025-10-26') AS counted, "
        "(SELECT count(DISTINCT run_id) FROM dixa_catalogue.loads "
        "WHERE partition_date BETWEEN '2025-10-22' AND '2025-10-28') AS runs"
    )
    assert (
        found.records[0] == found.counted[0] == len(world.rows("closed_conversations", **long_day))
    )
    assert found.runs[0] == 1


def test_a_metric_the_vendor_adds_becomes_an_asset_with_data(
    dagster_dev: Dagster, simulator_process: Simulator
) -> None:
    wait_until(lambda: dagster_dev.assets(), what="the first catalogue")
    entry = {"id": "brand_new", "aggregations": [{"measure": "Count"}]}
    simulator_process.tell("metrics", entry=entry, like="closed_conversations")
    wait_until(lambda: "dixa_metrics/brand_new" in dagster_dev.assets(), what="the new asset")
    wait_until(lambda: dagster_dev.days().get("dixa_metrics/brand_new") == 2, what="its data")
    changes = "SELECT change FROM dixa_catalogue.changes WHERE id = 'brand_new'"
    wait_until(
        lambda: dagster_dev.query(changes).change.to_list() == ["added"],
        what="the change on record",
    )


def test_the_key_is_in_nothing_that_was_written(dagster_dev: Dagster) -> None:
    wait_until(lambda: dagster_dev.assets(), what="the first catalogue")
    files = {}
    for path in dagster_dev.folder.rglob("*"):
        # Dagster creates and removes write-ahead logs meanwhile.
        with suppress(FileNotFoundError, IsADirectoryError):
            files[path] = path.read_bytes()
    assert any(path.suffix == ".duckdb" for path in files)
    assert [path for path, content in files.items() if KEY.encode() in content] == []


def test_a_killed_backfill_keeps_its_days_and_a_second_one_loads_the_rest(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.tell("settings", latency_ms=100)
    first, last = "2025-10-01", "2025-10-31"
    loads = {}
    for name in ("undisturbed", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        loads[name] = settings_for(simulator, folder)
        store_catalogue(loads[name])
    whole = [*materialize(), "--partition-range", f"{first}...{last}"]
    run(whole, loads["undisturbed"], ok=True)

    killed = DixaAnalytics(duckdb_path=loads["killed"]["DIXA_DUCKDB_PATH"]).build_warehouse()
    with running(whole, loads["killed"], tmp_path / "log") as process:
        wait_until(lambda: process.poll() is None and days_in(killed) >= 6, what="days")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = days_in(killed)
    assert 6 <= kept < 31

    key = dg.AssetKey(["dixa_records", "messages_sent"])
    with dg.DagsterInstance.from_config(loads["killed"]["DAGSTER_HOME"]) as instance:
        reported = instance.get_materialized_partitions(key)
        # A day is written before it is reported, so a kill can leave written days to load again.
        assert 0 < len(reported) <= kept
    october = [(date(2025, 10, 1) + timedelta(days=number)).isoformat() for number in range(31)]
    missing = [day for day in october if day not in reported]
    for start, end in contiguous(missing):
        run([*materialize(), "--partition-range", f"{start}...{end}"], loads["killed"], ok=True)

    rows = "SELECT * EXCLUDE (loaded_at, run_id) FROM dixa_records.messages_sent ORDER BY ALL"
    undisturbed = DixaAnalytics(
        duckdb_path=loads["undisturbed"]["DIXA_DUCKDB_PATH"]
    ).build_warehouse()
    assert killed.query(rows).equals(undisturbed.query(rows))


def test_the_catalogue_sensor_reloads_its_code_server(simulator: Simulator, tmp_path: Path) -> None:
    settings = settings_for(simulator, tmp_path)
    socket = str(tmp_path / "socket")
    command = ["dagster", "code-server", "start", "--socket", socket]
    command += ["-m", "dixa_assets.definitions", "--location-name", "dixa_assets"]
    with (
        # Two processes must not create Dagster's tables at the same time.
        dg.DagsterInstance.from_config(settings["DAGSTER_HOME"]) as instance,
        running(command, settings, tmp_path / "log"),
    ):
        wait_until(lambda: Path(socket).exists(), what="the code server")
        target = GrpcServerTarget(
            host="localhost", port=None, socket=socket, location_name="dixa_assets"
        )
        with WorkspaceProcessContext(instance, target) as context:

            def location_and_repository() -> tuple[Any, Any]:
                location = context.create_request_context().get_code_location("dixa_assets")
                return location, next(iter(location.get_repositories().values()))

            def keys() -> set[str]:
                _, repository = location_and_repository()
                return {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}

            def tick() -> str:
                location, repository = location_and_repository()
                data = location.get_sensor_execution_data(
                    instance, repository.handle, "dixa_catalogue", None, None, None, None, None
                )
                return str(data.skip_message)

            assert keys() == set()
            assert "The code location was reloaded" in tick()
            wait_until(lambda: "dixa_metrics/csat" in keys(), what="the assets")
            assert "nothing new" in tick()
            simulator.withdraw("metrics", "csat")
            assert "metric 'csat' retired" in tick()
            wait_until(lambda: "dixa_metrics/csat" in keys(), what="the retired asset")


def materialize() -> list[str]:
    command = ["dagster", "asset", "materialize", "-m", "dixa_assets.definitions"]
    return [*command, "--select", "key:dixa_records/messages_sent"]


def days_in(warehouse: Any) -> int:
    if not warehouse.path.exists():
        return 0
    found = warehouse.query(
        "SELECT count(*) AS n FROM duckdb_tables() WHERE table_name = 'messages_sent'"
    )
    if not found.n[0]:
        return 0
    days = "SELECT count(DISTINCT partition_date) AS n FROM dixa_records.messages_sent"
    return int(warehouse.query(days).n[0])


def contiguous(days: list[str]) -> list[tuple[str, str]]:
    ranges: list[tuple[str, str]] = []
    for day in days:
        yesterday = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        if ranges and ranges[-1][1] == yesterday:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges
