"""The client's operations over real HTTP: what goes out, what comes back, and what it has cost."""

import httpx
import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiUnavailable
from dixa_assets.model.counts import Usage
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.client import (
    END,
    OPERATIONS,
    START,
    Impatient,
    body_of,
    records_of,
    truth,
)
from dixa_assets_tests.support.simulator import KEY, NOW, Simulator

# The seven operations.


def test_the_metrics_catalogue_is_fetched_whole(client: DixaClient) -> None:
    assert client.fetch_metrics() == [metric.to_api() for metric in METRICS.values()]


def test_the_records_catalogue_is_fetched_whole(client: DixaClient) -> None:
    assert client.fetch_records() == [record.to_api() for record in RECORDS.values()]


def test_one_metric_is_described(client: DixaClient) -> None:
    assert client.fetch_metric("csat") == METRICS["csat"].to_api()


def test_one_record_is_described(client: DixaClient) -> None:
    assert client.fetch_record("ratings") == RECORDS["ratings"].to_api()


def test_filter_values_are_fetched_whole(client: DixaClient) -> None:
    expected = [{"value": one.value, "label": one.label} for one in filter_values("queue_id") or ()]
    assert len(expected) > 1
    assert client.fetch_filter_values("queue_id") == expected


def test_the_aggregates_of_a_metric_are_the_worlds(client: DixaClient, world: World) -> None:
    aggregates = world.aggregate("rating_score", start=START, end=END, now=NOW)
    assert len(aggregates) > 1
    answer = client.fetch_metric_data(body_of("rating_score"), Usage())
    assert answer == {"id": "rating_score", "aggregates": aggregates}


def test_the_rows_of_a_record_are_the_worlds_in_their_order(
    client: DixaClient, world: World
) -> None:
    assert records_of(client) == truth(world)


def test_a_query_goes_out_as_it_was_given(simulator: Simulator, client: DixaClient) -> None:
    query = {**body_of("csat"), "filters": [{"attribute": "channel", "values": ["EMAIL"]}]}
    client.fetch_metric_data(query, Usage())
    assert [one["body"] for one in simulator.requests()] == [query]


@pytest.mark.parametrize("entry_id", ["a/b", "50 %?", "#1", "ø+ü", "%2F"])
def test_an_id_of_any_spelling_is_asked_for_as_it_is(
    simulator: Simulator, client: DixaClient, entry_id: str
) -> None:
    simulator.tell("metrics", entry={"id": entry_id}, like="csat")
    assert client.fetch_metric(entry_id) == {"id": entry_id}


@pytest.mark.parametrize("name", ["getAnalyticsMetricsMetricid", "postAnalyticsRecords"])
def test_the_other_api_version_is_asked_when_configured(simulator: Simulator, name: str) -> None:
    with Impatient(base_url=simulator.url, api_version="beta") as client:
        OPERATIONS[name](client)
    assert [one["operation"] for one in simulator.requests()] == [name]
    assert simulator.requests()[0]["path"].startswith("/beta/analytics/")


# What it has cost.


def test_one_answer_costs_one_request_and_its_bytes(
    simulator: Simulator, client: DixaClient
) -> None:
    usage = Usage()
    client.fetch_metric_data(body_of("csat"), usage)
    url = f"{simulator.url}/v1/analytics/metrics"
    answer = httpx.post(url, json=body_of("csat"), headers={"Authorization": KEY})
    assert (usage.requests, usage.retries, usage.pages) == (1, 0, 0)
    assert usage.bytes == len(answer.content) > 0


def test_pages_are_counted(simulator: Simulator, client: DixaClient, world: World) -> None:
    usage = Usage()
    records_of(client, usage=usage)
    pages = -(-len(truth(world)) // 300)
    assert (usage.requests, usage.retries, usage.pages) == (pages, 0, pages)


def test_retries_are_counted_among_the_requests(simulator: Simulator, client: DixaClient) -> None:
    usage = Usage()
    simulator.tell("faults", kind="status", status=503, times=3)
    records_of(client, "ratings", usage)
    assert (usage.requests, usage.retries, usage.pages) == (4, 3, 1)


def test_tries_that_all_failed_are_counted(simulator: Simulator) -> None:
    usage = Usage()
    simulator.tell("faults", kind="reset")
    with (
        Impatient(base_url=simulator.url, max_attempts=4) as client,
        pytest.raises(ApiUnavailable),
    ):
        records_of(client, usage=usage)
    assert (usage.requests, usage.retries, usage.pages, usage.bytes) == (4, 3, 0, 0)


def test_costs_of_several_queries_add_up(client: DixaClient) -> None:
    usage = Usage()
    for _ in range(3):
        client.fetch_filter_values("channel", usage)
    assert (usage.requests, usage.pages) == (3, 3)


def test_waiting_for_the_pace_is_counted(simulator: Simulator) -> None:
    usage = Usage()
    with Impatient(base_url=simulator.url, requests_per_second=20, burst=1) as client:
        for _ in range(4):
            client.fetch_filter_values("channel", usage)
    # Three waits for a token that comes back every 50 ms, less the time requests took.
    assert 0.05 < usage.seconds_waiting < 2
