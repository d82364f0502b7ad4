"""Run the demo: a simulated Dixa and a Dagster UI over it, data apart from real data.

`python -m dixa_assets.simulator.demo [--port 3000]` from the project's folder. Everything it
keeps is in `.demo/`; a second start goes on where the first one ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dixa_assets.simulator.__main__ import DEMO_KEY

FOLDER = Path(".demo")
# Long enough to look around first, short enough to still be looking.
METRIC_APPEARS_AFTER_SECONDS = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve simulator and Dagster until one of them ends, and return the exit code."""
    options = _parse(arguments)
    try:
        socket.create_server(("127.0.0.1", options.port)).close()
    except OSError:
        print(f"Port {options.port} is in use. Take another: make demo PORT=3001", file=sys.stderr)
        return 1
    folder = FOLDER.absolute()
    home = folder / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").unlink(missing_ok=True)
    (home / "dagster.yaml").symlink_to(Path("dagster.yaml").absolute())
    database = folder / "dixa.duckdb"
    # A metric that has appeared once is there from the start, or it would come and go.
    delay = 0 if database.exists() else METRIC_APPEARS_AFTER_SECONDS
    own = dict(
        os.environ,
        DIXA_API_KEY=DEMO_KEY,
        DIXA_DUCKDB_PATH=str(database),
        DIXA_READ_COPY_PATH=str(folder / "dixa_read.duckdb"),
    )
    with _started(
        ["dixa_assets.simulator", "--port", "0", "--add-metric-after", str(delay)],
        own,
        folder,
        stdout=subprocess.PIPE,
    ) as simulator:
        assert simulator.stdout is not None  # noqa: S101
        line = simulator.stdout.readline()
        print(line.strip(), flush=True)
        own |= {
            "DAGSTER_HOME": str(home),
            "DIXA_BASE_URL": line.split()[-1],
            "DIXA_CATALOGUE_REFRESH_SECONDS": "30",
            "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
        }
        workspace = str(Path("workspace.yaml").absolute())
        print(
            f"\n    The Dagster UI comes up at http://127.0.0.1:{options.port}\n"
            f"    The tables grow in {database.relative_to(Path.cwd())}\n"
            "    Ctrl-C stops it all; the next start goes on from here.\n",
            flush=True,
        )
        # Not from this folder: Dagster would read the .env of the real account.
        with _started(
            ["dagster", "dev", "-w", workspace, "-p", str(options.port)], own, folder
        ) as dagster:
            return dagster.wait()


@contextmanager
def _started(
    module: Sequence[str], env: Mapping[str, str], folder: Path, *, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python module as a child process, interrupted and awaited at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", *module], env=env, cwd=folder, stdout=stdout, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def _stop(*_: object) -> None:
    raise SystemExit(0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dixa_assets.simulator.demo")
    parser.add_argument("--port", type=int, default=3000, help="where the Dagster UI listens")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    # A terminal interrupts the children too; whoever ends this process alone must end them.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    sys.exit(main())
