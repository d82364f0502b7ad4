"""Ctrl-C ends `make demo` and `make dev`, whatever they are at."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dixa_assets_tests.support.launched import SECONDS_TO_END, STATE, launched
from dixa_assets_tests.support.processes import graphql, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("api", ["answers", "refuses", "is silent"])
def test_an_interrupted_load_ends_whatever_the_api_does(tmp_path: Path, api: str) -> None:
    with launched("demo", tmp_path) as demo:
        wait_until(demo.is_loading, seconds=90, what="a first day")
        simulator = demo.simulator()
        if api == "refuses":
            os.kill(simulator, signal.SIGKILL)
        elif api == "is silent":
            # The system still accepts its connections.
            os.kill(simulator, signal.SIGSTOP)
        if api != "answers":
            time.sleep(35)  # until the catalogue's sensor asks too
        assert demo.interrupt() < SECONDS_TO_END


def test_an_interrupt_ends_a_tick_whose_answer_trickles(tmp_path: Path) -> None:
    with (
        trickling() as url,
        launched("dev", tmp_path, DIXA_API_KEY="a-key", DIXA_BASE_URL=url) as dev,
    ):
        wait_until(lambda: graphql(dev.url, STATE) is not None, seconds=60, what="the UI")
        time.sleep(8)
        assert dev.interrupt() < SECONDS_TO_END


@contextmanager
def trickling() -> Iterator[str]:
    """The address of a server whose answers come a byte a second and never end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
                while True:
                    connection.sendall(b" ")
                    time.sleep(1)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
