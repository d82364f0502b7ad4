"""`make demo` and `make dev` as their users run them: what is printed, and how Ctrl-C ends it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dixa_assets_tests.support.processes import PROJECT, free_port, graphql, wait_until

pytestmark = pytest.mark.slow

SECONDS_TO_END = 8
STATE = """{ assetNodes { assetKey { path }
  partitionStats { numMaterialized numPartitions } } }"""


@dataclass
class Launched:
    """A running launcher: its process, its console, the address of Dagster's UI."""

    process: subprocess.Popen[bytes]
    console: Path
    url: str

    def lines(self) -> list[str]:
        return self.console.read_text().splitlines()

    def filled(self) -> list[bool]:
        """For each asset with days, whether all of them are loaded."""
        data = graphql(self.url, STATE) or {"assetNodes": []}
        stats = [node["partitionStats"] for node in data["assetNodes"]]
        return [one["numMaterialized"] == one["numPartitions"] for one in stats if one]

    def is_loading(self) -> bool:
        data = graphql(self.url, STATE) or {"assetNodes": []}
        stats = [node["partitionStats"] for node in data["assetNodes"]]
        return any(one["numMaterialized"] for one in stats if one)

    def simulator(self) -> int:
        """The id of the simulator's process."""
        table = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        (found,) = (
            int(row.split()[0])
            for row in table.splitlines()
            if row.split()[1] == str(self.process.pid) and "dixa_assets.simulator" in row
        )
        return found

    def interrupt(self) -> float:
        """Ctrl-C: a signal to the process group; how many seconds everything took to end."""
        members = group_of(self.process.pid)
        begun = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=60)
        took = time.monotonic() - begun
        assert [pid for pid in members if is_alive(pid)] == []
        return took


def group_of(ancestor: int) -> set[int]:
    """The ids of a process and of all below it."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = [tuple(map(int, row.split())) for row in table.splitlines()]
    found = {ancestor}
    while more := {pid for pid, parent in parents if parent in found} - found:
        found |= more
    return found


def is_alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


@contextmanager
def launched(what: str, folder: Path, **settings: str) -> Iterator[Launched]:
    """`make demo` or `make dev` without make, in a folder of its own."""
    for name in ("dagster.yaml", "workspace.yaml"):
        (folder / name).write_text((PROJECT / name).read_text())
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DIXA_", "DAGSTER_"))
    }
    port, console = free_port(), folder / "console"
    with console.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dixa_assets.launch", what, "--port", str(port)],
            env=outside | {"HOME": str(folder)} | settings, cwd=folder,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield Launched(process, console, f"http://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)


def test_the_demo_is_quiet_fills_every_day_and_ends_at_once_when_idle(tmp_path: Path) -> None:
    with launched("demo", tmp_path) as demo:
        wait_until(lambda: len(demo.lines()) >= 10, seconds=20, what="the banner")
        said = "\n".join(demo.lines()[:10])
        for place in (f"{demo.url}/assets\n", "dixa_metrics/csat", "report.html", "read.duckdb"):
            assert place in said
        wait_until(
            lambda: (found := demo.filled()) and sum(found) >= 0.9 * len(found),
            seconds=240,
            what="nine assets of ten with all their days",
        )
        wait_until(
            lambda: any("'reopened_conversations' added" in line for line in demo.lines()),
            seconds=240,
            what="the metric that the vendor adds",
        )
        lines = demo.lines()
        assert len(lines) < 60, "\n".join(lines)
        assert not [line for line in lines if "DEBUG" in line or "supersede" in line.lower()]
        assert any("Load begun" in line for line in lines)
        assert any("Load ended" in line for line in lines)
        log = (tmp_path / ".demo" / "dagster.log").read_text()
        assert "STEP_SUCCESS" in log
        assert demo.interrupt() < SECONDS_TO_END


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
