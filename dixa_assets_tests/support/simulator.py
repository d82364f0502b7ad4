"""The simulated Dixa in a process of its own, and its controls."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

KEY = "a-key-for-tests"
NOW = datetime(2025, 11, 10, 12, tzinfo=UTC)
COPENHAGEN = "Europe/Copenhagen"
MILLISECOND = timedelta(milliseconds=1)
Json = dict[str, Any]


@dataclass(frozen=True)
class Simulator:
    """A running simulated Dixa."""

    url: str

    def tell(self, path: str, **wish: Any) -> Any:
        """POST to a control endpoint, for instance `tell("faults", kind="reset", times=1)`."""
        return self._control("POST", path, json=wish)

    def look(self, path: str) -> Any:
        """GET a control endpoint, for instance `look("summary")`."""
        return self._control("GET", path)

    def withdraw(self, kind: str, entry_id: str) -> None:
        """Take an entry out of the catalogue; `kind` is metrics or records."""
        self._control("DELETE", kind, params={"id": entry_id})

    def end_faults(self) -> None:
        """End all faults."""
        self._control("DELETE", "faults")

    def requests(self) -> list[dict[str, Any]]:
        """The API requests since the test began, oldest first."""
        found: list[dict[str, Any]] = self.look("requests")
        return found

    def forget_requests(self) -> None:
        """Empty the request log."""
        self._control("DELETE", "requests")

    def _control(self, method: str, path: str, **content: Any) -> Any:
        # Loading certificates takes 30 ms of the processor, and plain HTTP needs none.
        url = f"{self.url}/simulator/{path}"
        answer = httpx.request(method, url, timeout=30, verify=False, **content)
        assert answer.is_success, answer.text
        return answer.json()


@contextmanager
def running(*arguments: str, key: str = KEY) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator process on a free port and its address; the end of the block kills it."""
    command = [sys.executable, "-m", "dixa_assets.simulator", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DIXA_API_KEY": key}
    ) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


@contextmanager
def running_simulator(*arguments: str, key: str = KEY) -> Iterator[Simulator]:
    """A simulator that runs until the block ends."""
    with running(*arguments, key=key) as (_, url):
        yield Simulator(url)
