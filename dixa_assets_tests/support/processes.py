"""Processes that tests start, most of them Dagster's: settings, start and end."""

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx

from dixa_assets_tests.support.simulator import KEY, Simulator

# A shell starts background jobs that ignore interrupts, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).parents[2]
# Far above what a slow machine needs: it only ends a test that hangs.
LONGEST_WAIT_SECONDS = 900
T = TypeVar("T")

# Forked from a process that has the slow imports already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "dixa_assets_tests.conftest"])


def settings_for(simulator: Simulator, folder: Path, **more: str) -> dict[str, str]:
    """An environment in which Dagster and the project write below `folder` only."""
    home = folder / "dagster_home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    own = {
        "HOME": str(folder),
        "DAGSTER_HOME": str(home),
        "DIXA_API_KEY": KEY,
        "DIXA_BASE_URL": simulator.url,
        "DIXA_DUCKDB_PATH": str(folder / "dixa.duckdb"),
        "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
    }
    return outside_settings() | own | more


def outside_settings(*without: str) -> dict[str, str]:
    """This process's environment without the project's variables and Dagster's."""
    without = without or ("DIXA_", "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}


@contextmanager
def running(
    arguments: list[str],
    settings: dict[str, str],
    log: Path,
    *,
    python: str = sys.executable,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module in a process group of its own, which is killed when the block ends.

    Afterwards the group has closed its files, so that a database can be opened at once.
    """
    with log.open("wb") as output:
        # Children inherit the lock with the log. A killed process keeps both until it has closed
        # its files, which can take longer than the end of its parent.
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(
            [python, "-m", *arguments],
            env=settings,
            cwd=cwd or settings["HOME"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not has_flock(log), what=f"the end of the group of {log}")


def has_flock(path: Path) -> bool:
    """Whether a process has an flock on this file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def run(
    arguments: list[str], settings: dict[str, str], *, ok: bool | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python module to its end; `ok` says whether it must succeed (None: either)."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=settings,
        cwd=settings["HOME"],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert ok in (None, done.returncode == 0), done.stdout + done.stderr
    return done


def store_catalogue(settings: dict[str, str]) -> None:
    """Store the catalogue in the DAGSTER_HOME of some settings, as `make load` does."""
    command = ["dagster_dg_cli.cli", "utils", "refresh-defs-state", "--target-path", str(PROJECT)]
    run(command, settings, ok=True)


CALL = """
import json, sys
from importlib import import_module
module, name, arguments = sys.argv[1:]
print(json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))
"""


def call_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a new Python process, which imports that module alone.

    Arguments and result are values of JSON.
    """
    module, name = function.__module__, function.__name__
    done = subprocess.run(
        [sys.executable, "-c", CALL, module, name, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def wait_until(
    probe: Callable[[], T | None],
    *,
    what: str,
    seconds: float = LONGEST_WAIT_SECONDS,
    longest_pause: float = 1,
) -> T:
    """The first result of `probe` that is not None or False.

    It fails after `seconds`; give them where the time proves something, for instance that a
    connection was cut and did not end by itself. The pauses between two looks double, up to
    `longest_pause` seconds: one look at Dagster may take 0.2 s of the processor.
    """
    deadline, pause = time.monotonic() + seconds, 0.1
    while time.monotonic() < deadline:
        found = probe()
        if found is not None and found is not False:
            return found
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)
    raise AssertionError(f"not within {seconds} s: {what}")


def hold(path: str, pipe: Connection) -> None:
    """Keep a database open until a message arrives."""
    with duckdb.connect(path):
        pipe.send("held")
        pipe.recv()


@contextmanager
def child(
    target: Callable[..., None], *arguments: Any
) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """A process that runs `target` with a pipe to this one; killed when the block ends."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*arguments, there))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()
        process.close()
        here.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def graphql(url: str, query: str, **variables: Any) -> Any:
    """The data of a GraphQL answer, or None while the webserver does not answer."""
    answer = post(url, query, variables)
    if answer is None:
        return None
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert "errors" not in content, content["errors"]
    return content["data"]


def post(url: str, query: str, variables: Mapping[str, Any]) -> httpx.Response | None:
    """The answer to a GraphQL query, or None while the webserver does not answer."""
    content = {"query": query, "variables": variables}
    with suppress(httpx.HTTPError):
        # Loading certificates takes 30 ms of the processor, and plain HTTP needs none.
        return httpx.post(f"{url}/graphql", json=content, timeout=30, verify=False)
    return None


@contextmanager
def folder_of_command(name: str) -> Iterator[Path]:
    """A temporary folder for a command; kept when the command raises or exits.

    SIGTERM raises SystemExit, so that the command ends the processes it started.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        yield folder
    except BaseException:
        print(f"The files are kept in {folder}")
        raise
    shutil.rmtree(folder)
