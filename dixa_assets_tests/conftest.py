"""Fixtures of all tests: a simulated Dixa, a component, its catalogue, an instance, a warehouse."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.model.tables import METRIC_VALUES
from dixa_assets.simulator.world import World
from dixa_assets.staging import Staged
from dixa_assets.warehouse.warehouse import Warehouse
from dixa_assets_tests.support.scenario import component, fetched
from dixa_assets_tests.support.services import lake
from dixa_assets_tests.support.simulator import COPENHAGEN, NOW, Simulator, running_simulator

# pytest explains their failed assertions as it does in tests.
HELPERS = ("asking", "catalogues", "columns", "faults", "staged", "truth")
pytest.register_assert_rewrite(*(f"dixa_assets_tests.support.{name}" for name in HELPERS))
# These modules take minutes. They start first, so that the run does not end with one of them.
LONGEST = ("test_reuse", "test_demo", "test_launch", "test_many_machines", "test_end_to_end")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lake", action="store_true", help="run on a lake instead of a file")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, at most four: many tests wait for processes."""
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [*LONGEST, item.path.stem].index(item.path.stem))
    for item in items:
        if config.getoption("lake") and item.get_closest_marker("file"):
            item.add_marker(pytest.mark.skip(reason="holds of a database file alone"))


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    with running_simulator("--rate", "0") as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """The session's simulator with its built-in catalogue, no faults, no limit, clock at NOW."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return simulator_process


@pytest.fixture(scope="session")
def world() -> World:
    """The simulator's truth, computed in this process."""
    return World()


@pytest.fixture(scope="session")
def catalogue(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The simulator's built-in catalogue, fetched once."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return fetched(component(simulator_process, tmp_path_factory.mktemp("catalogue")))


@pytest.fixture
def analytics(simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    """A component that loads from the simulator into a new database."""
    return component(simulator, tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance without history."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def warehouse(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Warehouse]:
    if not pytestconfig.getoption("lake"):
        yield Warehouse(tmp_path / "test.duckdb", timezone=COPENHAGEN, wait_seconds=10)
        return
    with lake(tmp_path) as where:
        yield Warehouse(**where, timezone=COPENHAGEN, wait_seconds=10)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Staged]]:
    """Opens files of staged rows, which the end of the test removes."""
    made: list[Staged] = []

    def open_staged(table: Any = METRIC_VALUES) -> Staged:
        made.append(Staged(tmp_path / f"{len(made)}.jsonl", table))
        return made[-1]

    yield open_staged
    for staged in made:
        staged.discard()
