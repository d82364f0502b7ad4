"""A run that fails is told to a webhook, in a line without secrets."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest

from dixa_assets.errors import AlertNotSent, ConfigError
from dixa_assets.orchestration.alert import post_alert
from dixa_assets_tests.support.processes import free_port
from dixa_assets_tests.support.scenario import component, fetched, load
from dixa_assets_tests.support.simulator import KEY, Simulator


class Chat(ThreadingHTTPServer):
    """A chat's webhook: what it was sent, and how it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.lines: list[object] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/secret-part"


class Answer(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self.server.lines.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def running_chat() -> Iterator[Chat]:
    with Chat() as chat:
        thread = Thread(target=chat.serve_forever)
        thread.start()
        try:
            yield chat
        finally:
            chat.shutdown()
            thread.join()


@pytest.fixture
def chat() -> Iterator[Chat]:
    with running_chat() as chat:
        yield chat


def sensors_of(definitions: dg.Definitions) -> set[str]:
    return {sensor.name for sensor in definitions.sensors or ()}


def test_a_failed_run_is_told_in_one_line(
    simulator: Simulator, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIXA_ALERT_WEBHOOK", chat.url)
    analytics = component(simulator, tmp_path)
    simulator.tell("faults", kind="status", status=404, id="csat", times=None, body="gone")
    with dg.instance_for_test() as instance:
        result = load(analytics, ["dixa_metrics/csat"], "2025-11-01", instance=instance)
        context = dg.build_run_status_sensor_context(
            sensor_name="dixa_failure_alert",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
        ).for_run_failure()
        definitions = analytics.build_definitions(fetched(analytics))
        (sensor,) = (one for one in definitions.sensors or () if one.name == "dixa_failure_alert")
        sensor(context)
    (line,) = chat.lines
    assert set(line) == {"text"}
    text = line["text"]
    assert "\n" not in text
    assert "dixa_metrics/csat" in text
    assert "404" in text
    assert result.run_id[:8] in text
    assert KEY not in text


def test_without_a_webhook_nothing_listens_for_failures(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIXA_ALERT_WEBHOOK", raising=False)
    analytics = component(simulator, tmp_path)
    definitions = analytics.build_definitions(fetched(analytics))
    assert "dixa_failure_alert" not in sensors_of(definitions)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_webhook_that_refuses_is_told_without_its_address(chat: Chat, status: int) -> None:
    chat.status = status
    with pytest.raises(AlertNotSent, match=f"DIXA_ALERT_WEBHOOK .*{status}") as caught:
        post_alert(chat.url, "a line")
    assert "secret-part" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "hooks.example/x", "http://hooks.example/secret-part", "file:///etc/passwd"]
)
def test_an_address_that_would_tell_the_secret_to_everybody_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="DIXA_ALERT_WEBHOOK: is no address"):
        post_alert(address, "a line")


def test_a_webhook_that_is_not_there_is_an_error_in_words() -> None:
    with pytest.raises(AlertNotSent, match="could not be reached"):
        post_alert(f"http://127.0.0.1:{free_port()}/secret-part", "a line")
