"""Errors of the client name the request, the answer, and what to do."""

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.errors import ApiRefused
from dixa_assets.model.counts import Usage
from dixa_assets_tests.support.client import OPERATIONS, Impatient, body_of
from dixa_assets_tests.support.simulator import Simulator


@pytest.mark.parametrize(
    ("name", "request_line"),
    [
        ("getAnalyticsMetrics", "GET /v1/analytics/metrics"),
        ("getAnalyticsMetricsMetricid", "GET /v1/analytics/metrics/csat"),
        ("postAnalyticsMetrics", "POST /v1/analytics/metrics for 'csat'"),
        ("getAnalyticsRecords", "GET /v1/analytics/records"),
        ("getAnalyticsRecordsRecordid", "GET /v1/analytics/records/ratings"),
        ("postAnalyticsRecords", "POST /v1/analytics/records for 'ratings'"),
        ("getAnalyticsFilterFilterattribute", "GET /v1/analytics/filter/channel"),
    ],
)
def test_an_error_names_the_request_and_the_answer(
    simulator: Simulator, client: DixaClient, name: str, request_line: str
) -> None:
    simulator.tell("faults", kind="status", status=404, body='{"message": "Not\\n here"}')
    with pytest.raises(ApiRefused) as caught:
        OPERATIONS[name](client)
    assert str(caught.value).startswith(f"{request_line}: 404 Not Found: Not here. ")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "repeating it cannot help"),
        (401, "Check DIXA_API_KEY"),
        (403, "token of an admin"),
        (404, "does not know this id, or has removed it"),
        (422, "Repeating the request cannot help"),
    ],
)
def test_a_refusal_says_what_to_do(
    simulator: Simulator, client: DixaClient, status: int, advice: str
) -> None:
    simulator.tell("faults", kind="status", status=status)
    with pytest.raises(ApiRefused, match=advice):
        client.fetch_metrics()


def test_the_error_for_a_wrong_key_names_its_variable(simulator: Simulator) -> None:
    with (
        Impatient("another-key", base_url=simulator.url) as client,
        pytest.raises(ApiRefused, match="401 Unauthorized: Unauthorized. Check DIXA_API_KEY"),
    ):
        client.fetch_metrics()


def test_an_empty_answer_is_shown_as_no_message(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="status", status=403, body="")
    with pytest.raises(ApiRefused, match="403 Forbidden: no message"):
        client.fetch_metrics()


def test_a_rejected_request_without_a_filter_gets_advice_about_filters(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("settings", require_filter=True)
    with pytest.raises(ApiRefused, match="DIXA_REQUIRED_FILTER") as caught:
        client.fetch_metric_data(body_of("csat"), Usage())
    assert caught.value.status == 400


def test_another_rejection_gets_no_advice_about_filters(
    simulator: Simulator, client: DixaClient
) -> None:
    with pytest.raises(ApiRefused, match="timezone") as caught:
        client.fetch_metric_data({**body_of("csat"), "timezone": "Europe/Atlantis"}, Usage())
    assert "DIXA_REQUIRED_FILTER" not in str(caught.value)
