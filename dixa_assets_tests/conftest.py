"""One simulated Dixa for the whole session, as a real server process, set back before each test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from dixa_assets.client import DixaClient
from dixa_assets.simulator.world import World
from dixa_assets.warehouse import Warehouse

KEY = "a-key-for-tests"
NOW = datetime(2025, 11, 10, 12, tzinfo=UTC)
COPENHAGEN = "Europe/Copenhagen"


@dataclass(frozen=True)
class Simulator:
    """The simulated Dixa: its address, and what tests ask it and tell it to do."""

    url: str

    def tell(self, path: str, **wish: Any) -> Any:
        """POST to a control endpoint, for instance `tell("faults", kind="reset", times=1)`."""
        answer = httpx.post(f"{self.url}/simulator/{path}", json=wish, timeout=30, verify=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def withdraw(self, kind: str, entry_id: str) -> None:
        """Take an entry out of the catalogue; `kind` is metrics or records."""
        answer = httpx.delete(f"{self.url}/simulator/{kind}", params={"id": entry_id}, verify=False)
        assert answer.status_code == 200, answer.text

    def requests(self) -> list[dict[str, Any]]:
        """The API requests since the test began, oldest first."""
        found: list[dict[str, Any]] = httpx.get(
            f"{self.url}/simulator/requests", verify=False
        ).json()
        return found

    def forget_requests(self) -> None:
        """Empty the request log."""
        httpx.delete(f"{self.url}/simulator/requests", verify=False)


@contextmanager
def running_simulator(*arguments: str) -> Iterator[Simulator]:
    """A simulator process on a free port, ended in any case."""
    command = [sys.executable, "-m", "dixa_assets.simulator", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DIXA_API_KEY": KEY}
    ) as process:
        try:
            assert process.stdout
            yield Simulator(process.stdout.readline().split()[-1])
        finally:
            process.kill()


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
