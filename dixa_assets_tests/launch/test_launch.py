"""Ctrl-C stops `make demo` and `make dev` in every state."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dixa_assets_tests.support.launched import STATE, launched
from dixa_assets_tests.support.processes import free_port, graphql, outside_settings, wait_until

pytestmark = pytest.mark.slow

TICK = "Checking for new runs for sensor: dixa_catalogue"


def ticks(log: Path) -> int:
    """How often the daemon has started the sensor that requests the catalogue."""
    return log.read_text().count(TICK) if log.exists() else 0


@pytest.mark.parametrize("api", ["answers", "refuses", "is silent"])
def test_ctrl_c_stops_a_load_whatever_the_api_does(tmp_path: Path, api: str) -> None:
    log = tmp_path / ".demo" / "dagster.log"
    with launched("demo", tmp_path) as demo:
        wait_until(demo.is_loading, what="a first day")
        if api != "answers":
            # After SIGSTOP the system still accepts connections, but nothing answers.
            number = signal.SIGKILL if api == "refuses" else signal.SIGSTOP
            os.kill(demo.simulator(), number)
            before = ticks(log)
            wait_until(lambda: ticks(log) > before, what="a request for the catalogue")
        assert demo.interrupt() == 0


def test_ctrl_c_stops_a_sensor_tick_whose_answer_never_ends(tmp_path: Path) -> None:
    log = tmp_path / ".dagster_home" / "dagster.log"
    with (
        trickling() as (url, requested),
        launched("dev", tmp_path, DIXA_API_KEY="a-key", DIXA_BASE_URL=url) as dev,
    ):
        wait_until(lambda: graphql(dev.url, STATE) is not None, what="the UI")
        wait_until(
            lambda: ticks(log) > 0 and requested.is_set(),
            what="a request for the catalogue",
        )
        assert dev.interrupt() == 0


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("dev", "DAGSTER_HOME: its folder /proc/.dagster_home"),
        ("demo", ".demo: its folder /proc/.demo"),
    ],
)
def test_a_working_folder_that_cannot_be_written_ends_the_start_in_a_line(
    tmp_path: Path, mode: str, says: str
) -> None:
    own = {"HOME": str(tmp_path), "DIXA_DUCKDB_PATH": str(tmp_path / "dixa.duckdb")}
    done = subprocess.run(
        [sys.executable, "-m", "dixa_assets.launch", mode, "--port", str(free_port())],
        cwd="/proc",
        env=outside_settings() | own,
        capture_output=True,
        text=True,
        check=False,
    )
    line = f"✗ {says} cannot be made (No such file or directory).\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_dev_uses_the_home_that_the_environment_names_with_its_own_settings(
    tmp_path: Path,
) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with (
        trickling() as (url, _),
        launched(
            "dev", tmp_path, DIXA_API_KEY="a-key", DIXA_BASE_URL=url, DAGSTER_HOME=str(home)
        ) as dev,
    ):
        wait_until(lambda: graphql(dev.url, STATE) is not None, what="the UI")
        assert f"Its history is in {home}." in dev.console.read_text()
        assert dev.interrupt() == 0
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}"
    assert (home / "dagster.log").exists()
    assert (home / "history").is_dir()
    assert not (tmp_path / ".dagster_home").exists()


@contextmanager
def trickling() -> Iterator[tuple[str, threading.Event]]:
    """A server that answers one byte per second without end.

    Yields its address and an event that it sets when it receives a request.
    """
    requested = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                requested.set()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
                while True:
                    connection.sendall(b" ")
                    time.sleep(1)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requested
