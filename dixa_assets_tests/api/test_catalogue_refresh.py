"""The refresh of the catalogue goes on when Dixa does not describe one of its entries."""

import pytest

from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.errors import ApiRefused
from dixa_assets.model.catalogue import Catalogue
from dixa_assets_tests.support.client import Impatient
from dixa_assets_tests.support.simulator import Json, Simulator

DESCRIPTION = {"metric": "getAnalyticsMetricsMetricid", "record": "getAnalyticsRecordsRecordid"}
IDS = {"metric": "csat", "record": "ratings"}


@pytest.fixture
def known(client: Impatient) -> Catalogue:
    return fetch_catalogue(client, Catalogue())[0]


def delist(simulator: Simulator, kind: str, **answer: Json | int | str) -> None:
    """Remove an entry from the list; its description gets an answer of its own."""
    simulator.withdraw(f"{kind}s", IDS[kind])
    simulator.tell("faults", kind="status", operation=DESCRIPTION[kind], **answer)


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("status", [403, 422, 500, 501])
def test_an_entry_whose_description_fails_is_kept_and_named(
    status: int, kind: str, simulator: Simulator, client: Impatient, known: Catalogue
) -> None:
    delist(simulator, kind, status=status)
    catalogue, problems = fetch_catalogue(client, known)
    assert catalogue.live == known.live
    (problem,) = problems
    assert f"the {kind} '{IDS[kind]}' left the list and is kept: " in problem
    assert str(status) in problem


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("body", ['{"message": "no"}', "{}", "[]", "<html>", '{"data": {"id": 1'])
def test_an_entry_whose_description_cannot_be_read_is_kept_and_named(
    body: str, kind: str, simulator: Simulator, client: Impatient, known: Catalogue
) -> None:
    delist(simulator, kind, status=200, body=body)
    catalogue, problems = fetch_catalogue(client, known)
    assert catalogue.live == known.live
    assert len(problems) == 1


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_entry_that_dixa_does_not_know_is_retired(
    status: int, kind: str, simulator: Simulator, client: Impatient, known: Catalogue
) -> None:
    delist(simulator, kind, status=status)
    catalogue, problems = fetch_catalogue(client, known)
    assert {entry.id for entry in known.live} - {entry.id for entry in catalogue.live} == {
        IDS[kind]
    }
    assert problems == ()


def test_a_key_that_is_refused_ends_the_refresh(
    simulator: Simulator, client: Impatient, known: Catalogue
) -> None:
    delist(simulator, "metric", status=401)
    with pytest.raises(ApiRefused, match="401"):
        fetch_catalogue(client, known)
