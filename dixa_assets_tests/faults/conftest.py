"""Clients that hardly wait, and a database with three days to begin with."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings, Patience
from dixa_assets.api.transport import Transport
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.faults import KEYS, NPS, Scene, ask_for_days_alone, few
from dixa_assets_tests.support.simulator import NOW, Simulator


@pytest.fixture(scope="package")
def all_waits() -> Iterator[list[float]]:
    """The waits that clients request between tries; a client waits 20 ms at most."""
    requested: list[float] = []

    def sleep(_: DixaClient, seconds: float) -> None:
        requested.append(seconds)
        time.sleep(min(seconds, 0.02))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "_sleep", sleep)
        yield requested


@pytest.fixture(autouse=True)
def waits(all_waits: list[float]) -> list[float]:
    """The waits of one test."""
    all_waits.clear()
    return all_waits


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that wait 0.2 s for an answer."""
    _change_patience(monkeypatch, answer_seconds=0.2)


@pytest.fixture
def full_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that try a thousand times."""
    _change_patience(monkeypatch, attempts=1_000)


def _change_patience(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    make = DixaClient.__init__

    def make_changed(
        client: DixaClient,
        api_key: str,
        settings: ApiSettings | None = None,
        patience: Patience | None = None,
        **more: Any,
    ) -> None:
        make(client, api_key, settings, replace(patience or Patience(), **changes), **more)

    monkeypatch.setattr(DixaClient, "__init__", make_changed)


@pytest.fixture(scope="package")
def loaded(
    simulator_process: Simulator,
    catalogue: Catalogue,
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A database with the three days of four assets."""
    simulator_process.tell("reset", now=NOW.isoformat())
    analytics = few(simulator_process, tmp_path_factory.mktemp("loaded"))
    scene = Scene(simulator_process, analytics, catalogue, world)
    assert scene.load(*KEYS, NPS).success
    ask_for_days_alone(analytics)
    return Path(analytics.duckdb_path)


@pytest.fixture
def scene(
    loaded: Path, simulator: Simulator, catalogue: Catalogue, world: World, tmp_path: Path
) -> Scene:
    """A component whose database is a copy of the loaded one."""
    analytics = few(simulator, tmp_path)
    shutil.copy(loaded, analytics.duckdb_path)
    return Scene(simulator, analytics, catalogue, world)
