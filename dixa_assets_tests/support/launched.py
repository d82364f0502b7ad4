"""`make demo` and `make dev` as their users start and stop them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dixa_assets.launch.demo import OLDER_DAYS
from dixa_assets_tests.support.processes import PROJECT, free_port, graphql, outside_settings

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

    def _stats(self) -> list[dict[str, int]]:
        data = graphql(self.url, STATE) or {"assetNodes": []}
        return [node["partitionStats"] for node in data["assetNodes"] if node["partitionStats"]]

    def filled(self) -> list[bool]:
        """For each asset with days, whether all of its history is loaded."""
        return [
            one["numMaterialized"] == one["numPartitions"] - OLDER_DAYS for one in self._stats()
        ]

    def is_loading(self) -> bool:
        return any(one["numMaterialized"] for one in self._stats())

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

    def interrupt(self) -> int:
        """Send Ctrl-C to the process group; return the exit code once every process has ended."""
        members = group_of(self.process.pid)
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=60)
        assert [pid for pid in members if is_alive(pid)] == []
        return code


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
    port, console = free_port(), folder / "console"
    with console.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dixa_assets.launch", what, "--port", str(port)],
            env=outside_settings() | {"HOME": str(folder)} | settings,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Launched(process, console, f"http://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)
