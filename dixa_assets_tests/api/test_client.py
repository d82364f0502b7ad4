"""The client over real HTTP: the operations, the key, paging, retries, refusals, and redaction."""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from dixa_assets import client as client_module
from dixa_assets.client import PAGE_SIZES, DixaClient, Usage
from dixa_assets.errors import (
    ApiContractBroken,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    ConfigError,
    DixaAssetsError,
)
from dixa_assets.simulator.metrics import METRICS
from dixa_assets.simulator.people import filter_values
from dixa_assets.simulator.records import RECORDS
from dixa_assets.simulator.values import to_instant
from dixa_assets.simulator.world import World
from dixa_assets_tests.support.simulator import KEY, NOW, Simulator

START = datetime(2025, 11, 4, 23, tzinfo=UTC)
END = START + timedelta(days=1)
Json = dict[str, Any]
Operation = Callable[[DixaClient], Any]


class Impatient(DixaClient):
    """A client that notes how long it is told to wait, and waits no time at all."""

    def __init__(self, api_key: str = KEY, **settings: Any) -> None:
        self.waits: list[float] = []
        super().__init__(api_key, **{"requests_per_second": 100_000, "burst": 1000, **settings})

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Impatient]:
    with Impatient(base_url=simulator.url) as client:
        yield client


@contextmanager
def listening(payload: Json | None = None) -> Iterator[tuple[str, list[Json]]]:
    """A server that is not Dixa: its address, and the requests it got with their headers."""
    got: list[Json] = []
    answer = json.dumps(payload or {"data": []}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append({"path": self.path, "headers": dict(self.headers)})
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def body_of(entry_id: str) -> Json:
    end = END - timedelta(milliseconds=1)
    period = {"_type": "Interval", "start": to_instant(START), "end": to_instant(end)}
    return {"id": entry_id, "periodFilter": period, "timezone": "Europe/Copenhagen"}


def records_of(
    client: DixaClient, entry_id: str = "messages_sent", usage: Usage | None = None
) -> list[Json]:
    pages = client.fetch_record_pages(body_of(entry_id), usage or Usage())
    return [row for page in pages for row in page]


def truth(world: World, entry_id: str = "messages_sent") -> list[Json]:
    return [row.to_api() for row in world.rows(entry_id, start=START, end=END, now=NOW)]


# One call of each operation, by the operation's name at the vendor.
OPERATIONS: dict[str, Operation] = {
    "getAnalyticsMetrics": lambda client: client.fetch_metrics(),
    "getAnalyticsMetricsMetricid": lambda client: client.fetch_metric("csat"),
    "postAnalyticsMetrics": lambda client: client.fetch_metric_data(body_of("csat"), Usage()),
    "getAnalyticsRecords": lambda client: client.fetch_records(),
    "getAnalyticsRecordsRecordid": lambda client: client.fetch_record("ratings"),
    "postAnalyticsRecords": lambda client: records_of(client, "ratings"),
    "getAnalyticsFilterFilterattribute": lambda client: client.fetch_filter_values("channel"),
}
every_operation = pytest.mark.parametrize("name", OPERATIONS)
a_list = pytest.mark.parametrize("name", ["getAnalyticsMetrics", "postAnalyticsRecords"])


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


# The key.


@every_operation
def test_every_operation_accepts_the_key_alone(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    OPERATIONS[name](client)
    assert [(one["operation"], one["status"]) for one in simulator.requests()] == [(name, 200)]


@every_operation
def test_every_operation_accepts_the_key_as_a_bearer(simulator: Simulator, name: str) -> None:
    with Impatient(base_url=simulator.url, auth_scheme="Bearer") as client:
        OPERATIONS[name](client)
    assert [(one["operation"], one["status"]) for one in simulator.requests()] == [(name, 200)]


@pytest.mark.parametrize(("scheme", "header"), [("", "a-token"), ("Bearer", "Bearer a-token")])
def test_the_header_is_the_token_behind_the_scheme_or_alone(scheme: str, header: str) -> None:
    with listening() as (url, got), Impatient("a-token", base_url=url, auth_scheme=scheme) as one:
        one.fetch_metrics()
    assert [one["headers"]["Authorization"] for one in got] == [header]


@pytest.mark.parametrize(
    "typed",
    ["  a-token\n", "Bearer a-token", " Bearer   a-token ", "\ta-token"],
)
def test_space_and_a_leading_bearer_are_taken_off_the_key(typed: str) -> None:
    with listening() as (url, got), Impatient(typed, base_url=url) as client:
        client.fetch_metrics()
    assert got[0]["headers"]["Authorization"] == "a-token"


@pytest.mark.parametrize(
    "key", ["", "   ", "Bearer ", "a\ntoken", "a\x00token", "a\x7ftoken", "a\ttoken", "tøken"]
)
def test_a_key_that_cannot_be_a_token_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="^DIXA_API_KEY: ") as caught:
        DixaClient(key)
    assert "token" in str(caught.value)
    assert not key.strip() or key not in str(caught.value)


# The address.


@pytest.mark.parametrize(
    "url",
    [
        "http://dev.dixa.io",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1:8080",
    ],
)
def test_plain_http_is_refused_beyond_loopback(url: str) -> None:
    with pytest.raises(ConfigError, match="^DIXA_BASE_URL: must be https"):
        DixaClient(KEY, base_url=url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8070", "http://localhost:8070"),
        ("http://127.0.0.1:8070/", "http://127.0.0.1:8070"),
        ("http://[::1]:8070", "http://[::1]:8070"),
        (" https://dev.dixa.io/ ", "https://dev.dixa.io"),
    ],
)
def test_https_and_loopback_are_accepted(url: str, shown: str) -> None:
    with DixaClient(KEY, base_url=url) as client:
        assert repr(client) == f"DixaClient({shown}/v1/analytics)"


@pytest.mark.parametrize(
    "url",
    [
        "https://dev.dixa.io/v1",
        "https://someone@dev.dixa.io",
        "https://someone:word@dev.dixa.io",
        "https://:word@dev.dixa.io",
        "https://dev.dixa.io?page=1",
        "https://dev.dixa.io#part",
        "dev.dixa.io",
        "https://",
        "",
        "ftp://dev.dixa.io",
        "file:///etc/passwd",
        "https://[::1",
        "https://dev.dixa.io:port",
    ],
)
def test_an_address_that_is_not_scheme_and_host_alone_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="^DIXA_BASE_URL: "):
        DixaClient(KEY, base_url=url)


# Paging.


@pytest.mark.parametrize("form", ["relative", "absolute", "bare_key"])
def test_every_form_of_the_next_link_is_followed_to_the_last_row(
    simulator: Simulator, client: DixaClient, world: World, form: str
) -> None:
    simulator.tell("settings", next_form=form)
    expected = truth(world)
    assert len(expected) > PAGE_SIZES[0]
    assert records_of(client) == expected
    assert len(simulator.requests()) == -(-len(expected) // PAGE_SIZES[0])


@pytest.mark.parametrize("form", ["relative", "absolute", "bare_key"])
@pytest.mark.parametrize("name", ["getAnalyticsMetrics", "getAnalyticsRecords"])
def test_a_catalogue_in_small_pages_is_fetched_whole(
    simulator: Simulator, client: DixaClient, form: str, name: str
) -> None:
    whole = OPERATIONS[name](client)
    simulator.forget_requests()
    simulator.tell("settings", next_form=form, catalogue_page_limit=4)
    assert OPERATIONS[name](client) == whole
    assert len(simulator.requests()) == -(-len(whole) // 4)


def test_filter_values_in_small_pages_are_fetched_whole(
    simulator: Simulator, client: DixaClient
) -> None:
    whole = client.fetch_filter_values("channel")
    simulator.forget_requests()
    simulator.tell("settings", catalogue_page_limit=1)
    assert client.fetch_filter_values("channel") == whole
    assert len(simulator.requests()) == len(whole) > 1


def test_the_same_body_goes_with_every_page_key(simulator: Simulator, client: DixaClient) -> None:
    records_of(client)
    first, *others = simulator.requests()
    assert others
    assert first["query"] == {"pageLimit": "300"}
    assert first["body"] == body_of("messages_sent")
    for one in others:
        assert one["body"] == first["body"]
        assert one["path"] == first["path"]
        assert list(one["query"]) == ["pageKey"]


def test_page_keys_arrive_as_the_server_made_them(simulator: Simulator, client: DixaClient) -> None:
    records_of(client)
    keys = [one["query"]["pageKey"] for one in simulator.requests()[1:]]
    decoded = [base64.b64decode(key, validate=True).decode() for key in keys]
    assert decoded
    assert all(text.startswith(f"pageLimit=300&page={n}&") for n, text in enumerate(decoded, 1))


@pytest.mark.parametrize("spelling", ["a%2Bb%2Fc%3D%3D", "a+b/c=="])
def test_a_key_is_encoded_once_however_the_link_spells_it(
    simulator: Simulator, client: DixaClient, spelling: str
) -> None:
    link = f"/v1/analytics/metrics?pageKey={spelling}&pageLimit=7"
    page = {"data": [{"id": "one"}], "meta": {"next": link}}
    simulator.tell("faults", kind="status", status=200, body=json.dumps(page), times=1)
    simulator.tell("faults", kind="status", status=200, body='{"data": []}', times=1)
    assert client.fetch_metrics() == [{"id": "one"}]
    assert simulator.requests()[1]["query"] == {"pageKey": "a+b/c==", "pageLimit": "7"}


def test_a_bare_key_is_sent_alone_and_unaltered(simulator: Simulator, client: DixaClient) -> None:
    page = {"data": [{"id": "one"}], "pageKey": "a+b/c%3D="}
    simulator.tell("faults", kind="status", status=200, body=json.dumps(page), times=1)
    simulator.tell("faults", kind="status", status=200, body='{"data": []}', times=1)
    client.fetch_metrics()
    assert simulator.requests()[1]["query"] == {"pageKey": "a+b/c%3D="}


def test_parameters_of_the_link_other_than_paging_are_not_sent(
    simulator: Simulator, client: DixaClient
) -> None:
    link = "/v1/elsewhere?pageKey=abc&pageUp=1&debug=1"
    page = {"data": [{"id": "one"}], "meta": {"next": link}}
    simulator.tell("faults", kind="status", status=200, body=json.dumps(page), times=1)
    simulator.tell("faults", kind="status", status=200, body='{"data": []}', times=1)
    client.fetch_metrics()
    assert simulator.requests()[1]["query"] == {"pageKey": "abc"}
    assert simulator.requests()[1]["path"] == "/v1/analytics/metrics"


@a_list
def test_a_foreign_next_link_is_refused_and_never_asked(
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
def test_every_host_but_the_very_same_is_foreign(
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
    with pytest.raises(ApiContractBroken, match=f"{path}.*came twice"):
        fetch(client)


@a_list
def test_a_next_link_on_an_empty_page_is_not_followed(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    whole = OPERATIONS[name](client)
    simulator.forget_requests()
    simulator.tell("faults", kind="next_on_empty_page", times=5)
    assert OPERATIONS[name](client) == whole
    # The page with everything, and the empty one after it that still offers a next.
    assert len(simulator.requests()) == 2


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": {}}, {"meta": {"next": None}}])
def test_a_page_without_a_next_link_is_the_last(
    simulator: Simulator, client: DixaClient, meta: Json
) -> None:
    page = {"data": [{"id": "one"}], **meta}
    simulator.tell("faults", kind="status", status=200, body=json.dumps(page))
    assert client.fetch_metrics() == [{"id": "one"}]
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("answer", ["{}", '{"data": null}', '{"meta": {"next": "/v1?pageKey=a"}}'])
def test_a_list_without_data_is_empty_and_said_to_be(
    simulator: Simulator, client: DixaClient, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    simulator.tell("faults", kind="status", status=200, body=answer)
    assert client.fetch_records() == []
    assert "GET /v1/analytics/records: an answer without 'data'" in caplog.text
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize(
    "name", ["getAnalyticsMetricsMetricid", "postAnalyticsMetrics", "getAnalyticsRecordsRecordid"]
)
def test_an_object_without_data_is_no_answer(
    simulator: Simulator, client: DixaClient, name: str
) -> None:
    simulator.tell("faults", kind="missing_data")
    with pytest.raises(ApiContractBroken, match="no 'data' object"):
        OPERATIONS[name](client)


@pytest.mark.parametrize("answer", ["[]", "3", '"text"', "null"])
def test_json_that_is_no_object_is_no_answer(
    simulator: Simulator, client: DixaClient, answer: str
) -> None:
    simulator.tell("faults", kind="status", status=200, body=answer)
    with pytest.raises(ApiContractBroken, match="not an object"):
        client.fetch_metrics()


def test_data_that_is_no_list_is_no_page(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="status", status=200, body='{"data": {"items": []}}')
    with pytest.raises(ApiContractBroken, match="'data' is not a list"):
        client.fetch_metrics()


def test_a_next_link_without_a_key_is_an_error(simulator: Simulator, client: DixaClient) -> None:
    answer = '{"data": [{"id": "one"}], "meta": {"next": "/v1/analytics/metrics?page=2"}}'
    simulator.tell("faults", kind="status", status=200, body=answer)
    with pytest.raises(ApiContractBroken, match="no pageKey"):
        client.fetch_metrics()


def test_pages_without_end_are_given_up(
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
def test_a_refused_page_size_is_reduced_until_it_is_accepted(
    simulator: Simulator, client: DixaClient, world: World, accepted: int, tried: list[int]
) -> None:
    simulator.tell("settings", max_page_limit=accepted)
    assert records_of(client) == truth(world)
    sizes = [one["query"].get("pageLimit") for one in simulator.requests()]
    assert sizes[: len(tried)] == [str(size) for size in tried]
    assert set(sizes[len(tried) :]) == {None}


def test_the_accepted_page_size_is_remembered(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("settings", max_page_limit=60)
    client.fetch_metrics()
    simulator.forget_requests()
    client.fetch_records()
    assert [one["query"] for one in simulator.requests()] == [{"pageLimit": "50"}]


def test_a_server_that_refuses_the_smallest_page_is_believed(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("settings", max_page_limit=49)
    with pytest.raises(ApiRefused, match="pageLimit"):
        client.fetch_metrics()
    assert len(simulator.requests()) == len(PAGE_SIZES)


def test_another_refusal_does_not_change_the_page_size(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("faults", kind="status", status=400, body='{"message": "no"}', times=1)
    with pytest.raises(ApiRefused):
        client.fetch_metrics()
    client.fetch_metrics()
    assert [one["query"]["pageLimit"] for one in simulator.requests()] == ["300", "300"]


def test_an_expired_page_key_ends_the_query(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="expired_key")
    with pytest.raises(ApiRefused, match="pageKey"):
        records_of(client)


# Retries.

RETRYABLE: dict[str, Json] = {
    **{str(status): {"kind": "status", "status": status} for status in (408, 429, 500)},
    **{str(status): {"kind": "status", "status": status} for status in (502, 503, 504)},
    **{kind: {"kind": kind} for kind in ("reset", "truncate", "html", "malformed_json")},
}


@pytest.mark.parametrize("fault", RETRYABLE)
def test_a_passing_fault_is_retried_until_the_answer_comes(
    simulator: Simulator, client: Impatient, world: World, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault], times=2)
    assert records_of(client, "ratings") == truth(world, "ratings")
    assert [one["body"] for one in simulator.requests()] == [body_of("ratings")] * 3
    assert len(client.waits) == 2


@every_operation
def test_every_operation_is_retried(simulator: Simulator, client: Impatient, name: str) -> None:
    simulator.tell("faults", kind="status", status=503, times=1)
    OPERATIONS[name](client)
    assert [one["status"] for one in simulator.requests()] == [503, 200]
    assert len(client.waits) == 1


@pytest.mark.parametrize("fault", ["408", "429", "503", "reset", "truncate", "malformed_json"])
def test_a_lasting_fault_ends_as_unavailable_after_every_try(
    simulator: Simulator, fault: str
) -> None:
    simulator.tell("faults", **RETRYABLE[fault])
    with (
        Impatient(base_url=simulator.url, max_attempts=3) as client,
        pytest.raises(ApiUnavailable) as caught,
    ):
        client.fetch_metrics()
    assert caught.value.retryable
    assert len(simulator.requests()) == 3


def test_an_answer_with_a_nan_is_asked_for_again(
    simulator: Simulator, client: DixaClient, world: World
) -> None:
    simulator.tell("faults", kind="nan", times=1)
    answer = client.fetch_metric_data(body_of("csat"), Usage())
    assert answer["aggregates"] == world.aggregate("csat", start=START, end=END, now=NOW)
    assert len(simulator.requests()) == 2


def test_an_answer_that_stays_nan_is_unavailable(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="nan")
    with pytest.raises(ApiUnavailable, match="not JSON: NaN"):
        client.fetch_metric_data(body_of("csat"), Usage())


def test_a_fault_on_a_later_page_repeats_that_page_alone(
    simulator: Simulator, client: DixaClient, world: World
) -> None:
    simulator.tell("faults", kind="truncate", skip=1, times=1)
    assert records_of(client) == truth(world)
    keys = [one["query"].get("pageKey") for one in simulator.requests()]
    assert keys[0] is None
    assert keys[1] == keys[2]
    assert len(set(keys)) == len(keys) - 1


def test_a_host_that_does_not_listen_is_unavailable() -> None:
    with listening() as (url, _):
        pass
    with (
        Impatient(base_url=url, max_attempts=2) as client,
        pytest.raises(ApiUnavailable, match="Is the API reachable?") as caught,
    ):
        client.fetch_metrics()
    assert caught.value.status is None
    assert len(client.waits) == 1


def test_eight_tries_are_the_default(simulator: Simulator, client: Impatient) -> None:
    simulator.tell("faults", kind="status", status=503)
    with pytest.raises(ApiUnavailable):
        client.fetch_metrics()
    assert len(simulator.requests()) == 8


def test_waits_grow_from_half_a_second_to_a_minute(simulator: Simulator) -> None:
    simulator.tell("faults", kind="status", status=503)
    with (
        Impatient(base_url=simulator.url, max_attempts=11) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    for n, wait in enumerate(client.waits):
        assert min(0.5 * 2**n, 60) <= wait <= min(0.5 * 2**n + 1, 60)
    assert client.waits[-1] == 60


def test_no_try_starts_once_the_time_is_up(simulator: Simulator) -> None:
    simulator.tell("faults", kind="status", status=503)
    with (
        Impatient(base_url=simulator.url, give_up_after=0) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.fetch_metrics()
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_the_server_asks_for_in_seconds_is_kept(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    headers = {"Retry-After": "17"}
    simulator.tell("faults", kind="status", status=status, headers=headers, times=1)
    client.fetch_metrics()
    assert client.waits == [17]


def test_a_wait_the_server_asks_for_as_a_date_is_kept(
    simulator: Simulator, client: Impatient
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    headers = {"Retry-After": format_datetime(until, usegmt=True)}
    simulator.tell("faults", kind="status", status=429, headers=headers, times=1)
    client.fetch_metrics()
    assert len(client.waits) == 1
    assert 80 < client.waits[0] <= 100


@pytest.mark.parametrize(
    "header", ["0", "-5", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21", "nan"]
)
def test_a_wait_that_is_over_or_unreadable_leaves_the_usual_one(
    simulator: Simulator, client: Impatient, header: str
) -> None:
    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": header}}
    simulator.tell("faults", **fault, times=1)
    client.fetch_metrics()
    assert len(client.waits) == 1
    assert 0.5 <= client.waits[0] <= 1.5


def test_a_wait_of_hours_is_a_refusal(simulator: Simulator, client: Impatient) -> None:
    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": "7200"}}
    simulator.tell("faults", **fault)
    with pytest.raises(ApiRefused, match="429"):
        client.fetch_metrics()
    assert client.waits == []


def test_the_vendors_own_limit_draws_retries_not_a_failure(
    simulator: Simulator, client: Impatient
) -> None:
    simulator.tell("settings", rate=0.001, burst=1, retry_after=2)
    client.fetch_metrics()
    with pytest.raises(ApiUnavailable, match="429 Too Many Requests: Too Many Requests") as caught:
        client.fetch_metrics()
    assert caught.value.status == 429
    assert client.waits[0] == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_a_refusal_is_never_retried(simulator: Simulator, client: Impatient, status: int) -> None:
    simulator.tell("faults", kind="status", status=status, body='{"message": "no"}')
    with pytest.raises(ApiRefused) as caught:
        records_of(client)
    assert caught.value.status == status
    assert not caught.value.retryable
    assert client.waits == []
    assert len(simulator.requests()) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_its_target_never_asked(
    simulator: Simulator, client: Impatient, status: int
) -> None:
    with listening() as (elsewhere, got):
        headers = {"Location": f"{elsewhere}/v1/analytics/metrics"}
        simulator.tell("faults", kind="status", status=status, headers=headers)
        with pytest.raises(ApiRefused, match="redirected.*DIXA_BASE_URL"):
            client.fetch_metric_data(body_of("csat"), Usage())
    assert got == []
    assert client.waits == []
    assert len(simulator.requests()) == 1


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


# Stopping.


def test_closing_wakes_a_waiting_retry_and_sends_nothing_more(simulator: Simulator) -> None:
    asleep = threading.Event()
    caught: list[BaseException] = []

    class Sleeper(DixaClient):
        def _sleep(self, seconds: float) -> None:
            asleep.set()
            super()._sleep(seconds)

    client = Sleeper(KEY, base_url=simulator.url)

    def fetch() -> None:
        try:
            client.fetch_metrics()
        except DixaAssetsError as error:
            caught.append(error)

    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": "250"}}
    simulator.tell("faults", **fault)
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    assert asleep.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [str(error) for error in caught] == [
        "GET /v1/analytics/metrics: not sent: this load is being stopped."
    ]
    assert len(simulator.requests()) == 1


@every_operation
def test_a_closed_client_sends_nothing(simulator: Simulator, name: str) -> None:
    client = Impatient(base_url=simulator.url)
    client.close()
    with pytest.raises(ApiError, match="not sent"):
        OPERATIONS[name](client)
    assert simulator.requests() == []


# The key is shown nowhere.


def test_the_representation_has_no_key(client: DixaClient) -> None:
    assert KEY not in repr(client)
    assert KEY not in str(client)


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (json.dumps({"message": f"the key {KEY} is bad, {KEY}!"}), "the key *** is bad, ***!"),
        (json.dumps({"error": KEY}), '{"error": "***"}'),
        (f"bad key: {KEY}", "bad key: ***"),
    ],
)
def test_a_key_the_server_echoes_is_not_repeated(
    simulator: Simulator,
    client: DixaClient,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: str,
    shown: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    simulator.tell("faults", kind="status", status=status, body=body)
    with pytest.raises(ApiError) as caught:
        client.fetch_metrics()
    assert shown in str(caught.value)
    assert KEY not in repr(caught.value)
    assert caplog.text
    assert KEY not in caplog.text


def test_a_key_on_which_a_long_message_is_cut_is_not_shown_in_part(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("faults", kind="status", status=400, body="x" * 290 + KEY)
    with pytest.raises(ApiRefused) as caught:
        client.fetch_metrics()
    assert "x" * 290 in str(caught.value)
    assert KEY[:5] not in str(caught.value)


def test_an_endless_message_is_cut(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="status", status=400, body="<p>" + "x " * 5000)
    with pytest.raises(ApiRefused) as caught:
        client.fetch_metrics()
    assert 300 < len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["reset", "truncate", "html", "malformed_json"])
def test_no_error_and_no_log_record_shows_the_key(
    simulator: Simulator, client: DixaClient, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    simulator.tell("faults", kind=kind)
    with pytest.raises(ApiUnavailable) as caught:
        client.fetch_metrics()
    assert KEY not in repr(caught.value)
    assert "Next try in" in caplog.text
    assert KEY not in caplog.text


# What errors say.


@pytest.mark.parametrize(
    ("name", "request_line"),
    [
        ("getAnalyticsMetrics", "GET /v1/analytics/metrics: "),
        ("getAnalyticsMetricsMetricid", "GET /v1/analytics/metrics/csat: "),
        ("postAnalyticsMetrics", "POST /v1/analytics/metrics for 'csat': "),
        ("getAnalyticsRecords", "GET /v1/analytics/records: "),
        ("getAnalyticsRecordsRecordid", "GET /v1/analytics/records/ratings: "),
        ("postAnalyticsRecords", "POST /v1/analytics/records for 'ratings': "),
        ("getAnalyticsFilterFilterattribute", "GET /v1/analytics/filter/channel: "),
    ],
)
def test_an_error_says_what_was_asked_and_what_came_back(
    simulator: Simulator, client: DixaClient, name: str, request_line: str
) -> None:
    simulator.tell("faults", kind="status", status=404, body='{"message": "Not\\n here"}')
    with pytest.raises(ApiRefused) as caught:
        OPERATIONS[name](client)
    assert str(caught.value).startswith(f"{request_line}404 Not Found: Not here. ")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "repeating it cannot help"),
        (401, "Check DIXA_API_KEY"),
        (403, "token of an admin"),
        (404, "no longer, known to Dixa"),
        (422, "Repeating the request cannot help"),
    ],
)
def test_a_refusal_says_what_to_do(
    simulator: Simulator, client: DixaClient, status: int, advice: str
) -> None:
    simulator.tell("faults", kind="status", status=status)
    with pytest.raises(ApiRefused, match=advice):
        client.fetch_metrics()


def test_a_wrong_key_is_said_to_be_wrong(simulator: Simulator) -> None:
    with (
        Impatient("another-key", base_url=simulator.url) as client,
        pytest.raises(ApiRefused, match="401 Unauthorized: Unauthorized. Check DIXA_API_KEY"),
    ):
        client.fetch_metrics()


def test_an_error_without_a_message_says_so(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="status", status=403, body="")
    with pytest.raises(ApiRefused, match="403 Forbidden: no message"):
        client.fetch_metrics()


def test_a_server_that_insists_on_filters_draws_the_advice_to_name_one(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("settings", require_filter=True)
    with pytest.raises(ApiRefused, match="DIXA_REQUIRED_FILTER") as caught:
        client.fetch_metric_data(body_of("csat"), Usage())
    assert caught.value.status == 400


def test_a_refusal_about_something_else_does_not_speak_of_filters(
    simulator: Simulator, client: DixaClient
) -> None:
    with pytest.raises(ApiRefused, match="timezone") as caught:
        client.fetch_metric_data({**body_of("csat"), "timezone": "Europe/Atlantis"}, Usage())
    assert "DIXA_REQUIRED_FILTER" not in str(caught.value)
