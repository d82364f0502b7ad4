"""One simulated Dixa for the whole session, as a real server process, set back before each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dixa_assets.client import DixaClient
from dixa_assets.simulator.world import World
from dixa_assets.warehouse import Warehouse
from dixa_assets_tests.support.simulator import COPENHAGEN, KEY, NOW, Simulator, running_simulator


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


@pytest.fixture
def client(simulator: Simulator) -> Iterator[DixaClient]:
    """A client of the simulator that is not slowed down."""
    with DixaClient(KEY, base_url=simulator.url, requests_per_second=100_000, burst=1000) as client:
        yield client


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "test.duckdb", timezone=COPENHAGEN, wait_seconds=10)
