"""The operations of the client over real HTTP: requests, answers, and their cost."""

import httpx
import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import Patience
from dixa_assets.errors import ApiUnavailable
from dixa_assets.model.counts import Usage
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.client import OPERATIONS, Impatient, body_of, records_of, truth
from dixa_assets_tests.support.days import aggregates_of
from dixa_assets_tests.support.simulator import KEY, Simulator

# The seven operations.


def test_catalogues_and_descriptions_equal_the_simulators(client: DixaClient) -> None:
    assert client.fetch_metrics() == [metric.to_api() for metric in METRICS.values()]
    assert client.fetch_records() == [record.to_api() for record in RECORDS.values()]
    assert client.fetch_metric("csat") == METRICS["csat"].to_api()
    assert client.fetch_record("ratings") == RECORDS["ratings"].to_api()


def test_filter_values_equal_the_simulators(client: DixaClient) -> None:
    expected = [{"value": one.value, "label": one.label} for one in filter_values("queue_id") or ()]
    assert len(expected) > 1
    assert client.fetch_filter_values("queue_id") == expected


def test_aggregates_of_a_metric_equal_the_simulators(client: DixaClient, world: World) -> None:
    aggregates = aggregates_of(world, "rating_score")
    assert len(aggregates) > 1
    answer = client.fetch_metric_data(body_of("rating_score"), Usage())
    assert answer == {"id": "rating_score", "aggregates": aggregates}


def test_rows_of_a_record_equal_the_simulators_in_order(client: DixaClient, world: World) -> None:
    assert records_of(client) == truth(world)


def test_a_query_is_sent_as_it_was_given(simulator: Simulator, client: DixaClient) -> None:
    query = {**body_of("csat"), "filters": [{"attribute": "channel", "values": ["EMAIL"]}]}
    client.fetch_metric_data(query, Usage())
    assert [one["body"] for one in simulator.requests()] == [query]


@pytest.mark.parametrize("entry_id", ["a/b", "50 %?", "#1", "ø+ü", "%2F"])
def test_an_id_may_have_any_characters(
    simulator: Simulator, client: DixaClient, entry_id: str
) -> None:
    simulator.tell("metrics", entry={"id": entry_id}, like="csat")
    assert client.fetch_metric(entry_id) == {"id": entry_id}


@pytest.mark.parametrize("name", ["getAnalyticsMetricsMetricid", "postAnalyticsRecords"])
def test_the_api_version_is_part_of_the_path(simulator: Simulator, name: str) -> None:
    with Impatient(base_url=simulator.url, api_version="beta") as client:
        OPERATIONS[name](client)
    assert [one["operation"] for one in simulator.requests()] == [name]
    assert simulator.requests()[0]["path"].startswith("/beta/analytics/")


# Usage.


def test_one_answer_counts_one_request_and_its_bytes(
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


def test_requests_that_all_failed_are_counted(simulator: Simulator) -> None:
    usage = Usage()
    simulator.tell("faults", kind="reset")
    with (
        Impatient(patience=Patience(attempts=4), base_url=simulator.url) as client,
        pytest.raises(ApiUnavailable),
    ):
        records_of(client, usage=usage)
    assert (usage.requests, usage.retries, usage.pages, usage.bytes) == (4, 3, 0, 0)


def test_the_usage_of_several_queries_adds_up(client: DixaClient) -> None:
    usage = Usage()
    for _ in range(3):
        client.fetch_filter_values("channel", usage)
    assert (usage.requests, usage.pages) == (3, 3)


def test_waits_for_the_rate_limit_are_counted(simulator: Simulator) -> None:
    usage = Usage()
    with Impatient(base_url=simulator.url, requests_per_second=20, burst=1) as client:
        for _ in range(4):
            client.fetch_filter_values("channel", usage)
    # Three waits for a token, one every 50 ms, minus the time of the requests.
    assert 0.05 < usage.seconds_waiting < 2
