"""The key and the address of a client: accepted, sent, and the key never shown."""

import json
import logging

import pytest

from dixa_assets.api.client import DixaClient
from dixa_assets.api.settings import ApiSettings
from dixa_assets.errors import ApiError, ApiRefused, ApiUnavailable, ConfigError
from dixa_assets_tests.support.client import OPERATIONS, Impatient, every_operation, listening
from dixa_assets_tests.support.simulator import KEY, Simulator

# The key.


@every_operation
@pytest.mark.parametrize("scheme", ["", "Bearer"])
def test_every_operation_accepts_the_key_with_and_without_a_scheme(
    simulator: Simulator, name: str, scheme: str
) -> None:
    with Impatient(base_url=simulator.url, auth_scheme=scheme) as client:
        OPERATIONS[name](client)
    assert [(one["operation"], one["status"]) for one in simulator.requests()] == [(name, 200)]


@pytest.mark.parametrize(("scheme", "header"), [("", "a-token"), ("Bearer", "Bearer a-token")])
def test_the_header_is_the_scheme_and_the_token(scheme: str, header: str) -> None:
    with (
        listening() as (url, got),
        Impatient("a-token", base_url=url, auth_scheme=scheme) as client,
    ):
        client.fetch_metrics()
    assert [one["headers"]["Authorization"] for one in got] == [header]


@pytest.mark.parametrize(
    "typed", ["  a-token\n", "Bearer a-token", " Bearer   a-token ", "\ta-token"]
)
def test_space_and_a_leading_bearer_are_removed_from_the_key(typed: str) -> None:
    with listening() as (url, got), Impatient(typed, base_url=url) as client:
        client.fetch_metrics()
    assert got[0]["headers"]["Authorization"] == "a-token"


@pytest.mark.parametrize(
    "key", ["", "   ", "Bearer ", "a\ntoken", "a\x00token", "a\x7ftoken", "a\ttoken", "tøken"]
)
def test_a_key_that_cannot_be_a_token_is_rejected(key: str) -> None:
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
def test_plain_http_is_rejected_beyond_loopback(url: str) -> None:
    with pytest.raises(ConfigError, match="^base_url: must be https"):
        DixaClient(KEY, ApiSettings(base_url=url))


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
    with DixaClient(KEY, ApiSettings(base_url=url)) as client:
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
def test_an_address_with_more_or_less_than_scheme_and_host_is_rejected(url: str) -> None:
    with pytest.raises(ConfigError, match="^base_url: "):
        DixaClient(KEY, ApiSettings(base_url=url))


# The key is never shown.


def test_the_repr_does_not_show_the_key(client: DixaClient) -> None:
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
def test_a_key_in_the_servers_answer_is_redacted(
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


def test_a_key_at_the_end_of_a_shortened_message_is_redacted_whole(
    simulator: Simulator, client: DixaClient
) -> None:
    simulator.tell("faults", kind="status", status=400, body="x" * 290 + KEY)
    with pytest.raises(ApiRefused) as caught:
        client.fetch_metrics()
    assert "x" * 290 in str(caught.value)
    assert KEY[:5] not in str(caught.value)


def test_a_long_message_is_shortened(simulator: Simulator, client: DixaClient) -> None:
    simulator.tell("faults", kind="status", status=400, body="<p>" + "x " * 5000)
    with pytest.raises(ApiRefused) as caught:
        client.fetch_metrics()
    assert 300 < len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["reset", "truncate", "html", "malformed_json"])
def test_errors_and_log_records_do_not_show_the_key(
    simulator: Simulator, client: DixaClient, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    simulator.tell("faults", kind=kind)
    with pytest.raises(ApiUnavailable) as caught:
        client.fetch_metrics()
    assert KEY not in repr(caught.value)
    assert "Next attempt in" in caplog.text
    assert KEY not in caplog.text
