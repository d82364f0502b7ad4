"""A failed run is reported to a webhook, in one line without secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from dixa_assets.component import DixaAnalytics
from dixa_assets.errors import AlertNotSent, ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.alert import post_alert
from dixa_assets_tests.support.client import listening
from dixa_assets_tests.support.processes import free_port
from dixa_assets_tests.support.raw import serve_raw
from dixa_assets_tests.support.scenario import load
from dixa_assets_tests.support.serve import Request, Response, serve
from dixa_assets_tests.support.simulator import KEY, Simulator


@dataclass
class Chat:
    """The webhook of a chat: the messages that it got, and the status of its answers."""

    url: str = ""
    messages: list[Any] = field(default_factory=list)
    status: int = 200
    location: str = ""

    def answer(self, request: Request) -> Response:
        assert request.headers["Content-Type"] == "application/json"
        self.messages.append(request.json())
        return Response({}, self.status, {"Location": self.location} if self.location else {})


@contextmanager
def running_chat() -> Iterator[Chat]:
    chat = Chat()
    with serve(chat.answer) as server:
        chat.url = f"{server.url}/hooks/secret-part"
        yield chat


@pytest.fixture
def chat() -> Iterator[Chat]:
    with running_chat() as chat:
        yield chat


def alert_sensors(definitions: dg.Definitions) -> list[Any]:
    return [each for each in definitions.sensors or () if each.name == "dixa_failure_alert"]


def test_a_failed_run_is_reported_in_one_line(
    simulator: Simulator,
    analytics: DixaAnalytics,
    catalogue: Catalogue,
    instance: dg.DagsterInstance,
    chat: Chat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIXA_ALERT_WEBHOOK", chat.url)
    simulator.tell("faults", kind="status", status=404, id="csat", times=None, body="gone")
    result = load(analytics, ["dixa_metrics/csat"], "2025-11-01", instance=instance)
    context = dg.build_run_status_sensor_context(
        sensor_name="dixa_failure_alert",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()
    (sensor,) = alert_sensors(analytics.build_definitions(catalogue))
    sensor(context)
    (message,) = chat.messages
    assert set(message) == {"text"}
    text = message["text"]
    assert "\n" not in text
    assert KEY not in text
    for part in ("dixa_metrics/csat", "404", result.run_id[:8]):
        assert part in text


def test_without_a_webhook_there_is_no_alert_sensor(
    analytics: DixaAnalytics, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIXA_ALERT_WEBHOOK", raising=False)
    assert alert_sensors(analytics.build_definitions(catalogue)) == []


@pytest.mark.parametrize("status", [400, 404, 500])
def test_the_error_of_a_webhook_that_refuses_hides_its_address(chat: Chat, status: int) -> None:
    chat.status = status
    with pytest.raises(AlertNotSent, match=f"DIXA_ALERT_WEBHOOK .*{status}") as caught:
        post_alert(chat.url, "a line")
    assert "secret-part" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "hooks.example/secret-part",
        "http://hooks.example/secret-part",
        "http://localhost.evil.example/secret-part",
        "http://127.0.0.1.evil.example/secret-part",
        "file:///etc/secret-part",
        "ftp://hooks.example/secret-part",
        "https://hooks.example/secret part",
        "https://hooks.example/secret-part ",
        "https://hooks.example/secret-part\n",
        "https://hooks.example:secret-part/x",
        "https://someone:secret-part@hooks.example/x",
        "https://[::1/secret-part",
        "https:///secret-part",
        " ",
    ],
)
def test_an_address_that_cannot_be_a_webhook_is_refused_at_the_start(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_ALERT_WEBHOOK", address)
    for attempt in (DixaAnalytics, lambda: post_alert(address, "a line")):
        with pytest.raises(ConfigError, match="^DIXA_ALERT_WEBHOOK: ") as refused:
            attempt()
        assert "secret" not in str(refused.value)


def test_a_text_of_dixa_reaches_the_chat_without_mentions_and_links(chat: Chat) -> None:
    post_alert(chat.url, "no <!channel> <https://evil.example|dixa.com> & &amp;")
    (message,) = chat.messages
    assert message["text"] == (
        "no &lt;!channel&gt; &lt;https://evil.example|dixa.com&gt; &amp; &amp;amp;"
    )


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_of_a_webhook_is_an_error_and_not_followed(chat: Chat, status: int) -> None:
    with listening() as (elsewhere, got):
        chat.status = status
        chat.location = f"{elsewhere}/taken"
        with pytest.raises(AlertNotSent, match=f"DIXA_ALERT_WEBHOOK .*{status}"):
            post_alert(chat.url, "a line")
        assert got == []


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_webhook_on_this_machine_is_not_proxied(
    chat: Chat, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (proxy, proxied):
        monkeypatch.setenv(name, proxy)
        post_alert(chat.url, "a line")
    assert (len(chat.messages), proxied) == (1, [])


def test_an_answer_that_is_no_http_is_an_error_without_the_address() -> None:
    with (
        serve_raw(lambda _, out: out.sendall(b"\x1b]0;title\x07\r\n\r\n")) as server,
        pytest.raises(AlertNotSent, match="could not be reached") as caught,
    ):
        post_alert(f"{server.url}/secret-part", "a line")
    assert "secret-part" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_webhook_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(AlertNotSent, match="could not be reached"):
        post_alert(f"http://127.0.0.1:{free_port()}/secret-part", "a line")
