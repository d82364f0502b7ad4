"""Clients that hardly wait, and a database with three days to begin with."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.transport import Transport
from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.support.faults import FIRST, KEYS, LAST, NPS, ask_for_days_alone, few
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import NOW, Simulator


@pytest.fixture(scope="package")
def all_waits() -> Iterator[list[float]]:
    """What clients were to wait between tries; they wait no longer than a moment."""
    asked: list[float] = []

    def sleep(_: DixaClient, seconds: float) -> None:
        asked.append(seconds)
        time.sleep(min(seconds, 0.02))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "_sleep", sleep)
        yield asked


@pytest.fixture(autouse=True)
def waits(all_waits: list[float]) -> list[float]:
    """The waits of one test."""
    all_waits.clear()
    return all_waits


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that take an answer for lost after 0.2 s."""
    make = DixaClient.__init__

    def make_impatient(client: DixaClient, *arguments: Any, **settings: Any) -> None:
        make(client, *arguments, **settings)
        client._transport._http.timeout = 0.2

    monkeypatch.setattr(DixaClient, "__init__", make_impatient)


@pytest.fixture(scope="package")
def catalogue(simulator_process: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The simulator's catalogue, fetched once."""
    simulator_process.tell("reset", now=NOW.isoformat())
    return fetched(component(simulator_process, tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="package")
def loaded(
    simulator_process: Simulator, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A database with the three days of four assets, for tests to begin with a copy of it."""
    simulator_process.tell("reset", now=NOW.isoformat())
    analytics = few(simulator_process, tmp_path_factory.mktemp("loaded"))
    assert load(analytics, [*KEYS, NPS], FIRST, LAST, catalogue=catalogue).success
    ask_for_days_alone(analytics)
    return Path(analytics.duckdb_path)


@pytest.fixture
def analytics(loaded: Path, simulator: Simulator, tmp_path: Path) -> DixaAnalytics:
    """A component whose database holds the three days."""
    analytics = few(simulator, tmp_path)
    shutil.copy(loaded, analytics.duckdb_path)
    return analytics
