"""Pages: the client follows every form of a link to the last row, and only on its own host."""

import base64
from collections.abc import Callable

import pytest

from dixa_assets.api import client as client_module
from dixa_assets.api.client import PAGE_SIZES, DixaClient
from dixa_assets.errors import ApiContractBroken, ApiRefused, ApiUnavailable, PageKeyRefused
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.client import (
    OPERATIONS,
    a_list,
    body_of,
    listening,
    records_of,
    truth,
)
from dixa_assets_tests.support.simulator import Json, Simulator

Answer = Callable[..., None]


@pytest.mark.parametrize("form", ["relative", "absolute", "bare_key", "key_for_link"])
def test_every_form_of_link_leads_to_the_last_row(
    simulator: Simulator, client: DixaClient, world: World, form: str
) -> None:
    simulator.tell("settings", next_form=form)
    expected = truth(world)
    assert len(expected) > PAGE_SIZES[0]
    assert records_of(client) == expected
    assert len(simulator.requests()) == -(-len(expected) // PAGE_SIZES[0])


@pytest.mark.parametrize("form", ["relative", "absolute", "bare_key"])
@pytest.mark.parametrize(
    "name", ["getAnalyticsMetrics", "getAnalyticsRecords", "getAnalyticsFilterFilterattribute"]
)
def test_a_list_in_small_pages_is_fetched_whole(
    simulator: Simulator, client: DixaClient, form: str, name: str
) -> None:
    whole = OPERATIONS[name](client)
    simulator.forget_requests()
    simulator.tell("settings", next_form=form, catalogue_page_limit=3)
    assert OPERATIONS[name](client) == whole
    assert len(simulator.requests()) == -(-len(whole) // 3) > 1


def test_a_list_that_looks_truncated_is_read_again_with_smaller_pages(
    simulator: Simulator, client: DixaClient
) -> None:
    there = len(client.fetch_records())
    for number in range(there, 1000):
        simulator.tell("records", entry={"id": f"record_{number}"}, like="ratings")
    simulator.forget_requests()
    assert len(client.fetch_records()) == 1000
    assert {each["status"] for each in simulator.requests()} == {200}
    assert len(simulator.requests()) > 4


def test_every_page_is_requested_with_the_same_body(
    simulator: Simulator, client: DixaClient
) -> None:
    records_of(client)
    first, *others = simulator.requests()
    assert others
    assert first["query"] == {"pageLimit": "300"}
    assert first["body"] == body_of("messages_sent")
    for one in others:
        assert one["body"] == first["body"]
        assert one["path"] == first["path"]
        assert list(one["query"]) == ["pageKey"]


def test_page_keys_are_sent_back_unchanged(simulator: Simulator, client: DixaClient) -> None:
    records_of(client)
    keys = [one["query"]["pageKey"] for one in simulator.requests()[1:]]
    decoded = [base64.b64decode(key, validate=True).decode() for key in keys]
    assert decoded
    assert all(text.startswith(f"pageLimit=300&page={n}&") for n, text in enumerate(decoded, 1))


LINK = "/v1/analytics/metrics?pageKey"


@pytest.mark.parametrize(
    ("page", "query"),
    [
        # The key is encoded once, whether or not the link encodes it.
        ({"meta": {"next": f"{LINK}=a%2Bb%2Fc%3D%3D"}}, {"pageKey": "a+b/c=="}),
        ({"meta": {"next": f"{LINK}=a+b/c=="}}, {"pageKey": "a+b/c=="}),
        # A key without a link is sent unchanged.
        ({"pageKey": "a+b/c%3D="}, {"pageKey": "a+b/c%3D="}),
        # The client sends only the two paging parameters of a link.
        ({"meta": {"next": f"{LINK}=a&pageLimit=7"}}, {"pageKey": "a", "pageLimit": "7"}),
        ({"meta": {"next": "/v1/elsewhere?pageKey=a&pageUp=1&debug=1"}}, {"pageKey": "a"}),
    ],
)
def test_the_next_page_is_requested_by_its_key(
    simulator: Simulator, client: DixaClient, answer: Answer, page: Json, query: Json
) -> None:
    answer({"data": [{"id": "one"}], **page}, times=1)
    answer({"data": []}, times=1)
    assert client.fetch_metrics() == [{"id": "one"}]
    assert simulator.requests()[1]["query"] == query
    assert simulator.requests()[1]["path"] == "/v1/analytics/metrics"


@a_list
def test_a_link_to_another_host_is_an_error_and_not_followed(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    with listening() as (elsewhere, got):
        simulator.tell("faults", kind="foreign_host", host=elsewhere)
        with pytest.raises(ApiContractBroken, match="another host"):
            OPERATIONS[name](client)
    assert got == []
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:1", "https://127.0.0.1", "//elsewhere.example", "http://x@elsewhere"]
)
def test_another_port_scheme_or_user_is_another_host(
    simulator: Simulator, client: DixaClient, host: str
) -> None:
    simulator.tell("faults", kind="foreign_host", host=host)
    with pytest.raises(ApiContractBroken, match="another host"):
        client.fetch_metrics()


@a_list
def test_a_repeated_page_key_is_an_error(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    simulator.tell("settings", max_page_limit=50, catalogue_page_limit=2)
    simulator.tell("faults", kind="repeated_key", times=5)
    path = "records for 'messages_sent'" if "post" in name else "/v1/analytics/"
    fetch = records_of if "post" in name else OPERATIONS[name]
    with pytest.raises(ApiContractBroken, match=f"{path}.*same page key twice"):
        fetch(client)


@a_list
def test_a_link_on_an_empty_page_is_not_followed(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    whole = OPERATIONS[name](client)
    simulator.forget_requests()
    simulator.tell("faults", kind="next_on_empty_page", times=5)
    assert OPERATIONS[name](client) == whole
    # One page with all items, and an empty page that has a link.
    assert len(simulator.requests()) == 2


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": {}}, {"meta": {"next": None}}])
def test_a_page_without_a_link_is_the_last(
    simulator: Simulator, client: DixaClient, answer: Answer, meta: Json
) -> None:
    answer({"data": [{"id": "one"}], **meta})
    assert client.fetch_metrics() == [{"id": "one"}]
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("payload", ["{}", '{"data": null}', '{"meta": {"next": "/v1?pageKey=a"}}'])
def test_a_list_without_data_is_empty_and_logged(
    simulator: Simulator,
    client: DixaClient,
    answer: Answer,
    caplog: pytest.LogCaptureFixture,
    payload: str,
) -> None:
    answer(payload)
    assert client.fetch_records() == []
    assert "GET /v1/analytics/records: an answer without 'data'" in caplog.text
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize(
    "name", ["getAnalyticsMetricsMetricid", "postAnalyticsMetrics", "getAnalyticsRecordsRecordid"]
)
def test_an_object_without_data_is_an_error(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    simulator.tell("faults", kind="missing_data")
    with pytest.raises(ApiUnavailable, match="200 with no 'data' object with an id"):
        OPERATIONS[name](client)
    assert len(simulator.requests()) == 8


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        *((text, "not an object") for text in ("[]", "3", '"text"', "null")),
        ('{"data": {"items": []}}', "'data' is not a list"),
        ('{"data": [{"id": "one"}], "meta": {"next": "/v1/metrics?page=2"}}', "no pageKey"),
    ],
)
def test_an_answer_that_is_no_page_is_an_error(
    client: DixaClient, answer: Answer, payload: str, message: str
) -> None:
    answer(payload)
    with pytest.raises(ApiContractBroken, match=message):
        client.fetch_metrics()


def test_an_endless_list_of_pages_is_an_error(
    simulator: Simulator, client: DixaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_PAGES", 3)
    simulator.tell("settings", catalogue_page_limit=1)
    with pytest.raises(ApiContractBroken, match="more than 3 pages"):
        client.fetch_metrics()
    assert len(simulator.requests()) == 3


@pytest.mark.parametrize(
    ("accepted", "tried"), [(300, [300]), (100, [300, 100]), (60, [300, 100, 50])]
)
def test_a_rejected_page_size_is_reduced_until_the_server_accepts_it(
    simulator: Simulator, client: DixaClient, world: World, accepted: int, tried: list[int]
) -> None:
    simulator.tell("settings", max_page_limit=accepted)
    assert records_of(client) == truth(world)
    sizes = [one["query"].get("pageLimit") for one in simulator.requests()]
    assert sizes[: len(tried)] == [str(size) for size in tried]
    assert set(sizes[len(tried) :]) == {None}


def test_later_calls_begin_with_the_accepted_page_size(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("settings", max_page_limit=60)
    client.fetch_metrics()
    simulator.forget_requests()
    client.fetch_records()
    assert [one["query"] for one in simulator.requests()] == [{"pageLimit": "50"}]


def test_the_rejection_of_the_smallest_page_is_an_error(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("settings", max_page_limit=49)
    with pytest.raises(ApiRefused, match="pageLimit"):
        client.fetch_metrics()
    assert len(simulator.requests()) == len(PAGE_SIZES)


def test_another_rejection_does_not_change_the_page_size(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("faults", kind="status", status=400, body='{"message": "no"}', times=1)
    with pytest.raises(ApiRefused):
        client.fetch_metrics()
    client.fetch_metrics()
    assert [one["query"]["pageLimit"] for one in simulator.requests()] == ["300", "300"]


def test_an_expired_page_key_is_an_error(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="expired_key")
    with pytest.raises(PageKeyRefused, match="pageKey"):
        records_of(client)
