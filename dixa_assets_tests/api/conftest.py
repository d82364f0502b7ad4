"""A client of the simulator, and what the tests of `api/` do with it again and again."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dixa_assets.api.extract import extract
from dixa_assets.api.requests import Request
from dixa_assets.model.days import Day
from dixa_assets.staging import Staged
from dixa_assets_tests.support.client import Impatient
from dixa_assets_tests.support.days import DAY
from dixa_assets_tests.support.simulator import Simulator
from dixa_assets_tests.support.staged import Extracted


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Impatient]:
    with Impatient(base_url=simulator.url) as client:
        yield client


@pytest.fixture
def answer(simulator: Simulator) -> Callable[..., None]:
    """Replaces the simulator's answers by a payload: all answers, or the next `times`."""

    def replace(payload: Any, *, times: int | None = None) -> None:
        body = payload if isinstance(payload, str) else json.dumps(payload)
        simulator.tell("faults", kind="status", status=200, body=body, times=times)

    return replace


@pytest.fixture
def extracted(client: Impatient, stage: Callable[..., Staged]) -> Extracted:
    """Extracts a day of an entry and returns the staged rows."""

    def run(request: Request, day: Day = DAY) -> Staged:
        staged = stage(request.spec.relation.stored_in, request.spec.policy)
        extract(client, request, day, staged)
        return staged

    return run
