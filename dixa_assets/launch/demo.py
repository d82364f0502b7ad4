"""`make demo`: a simulated Dixa with the Dagster UI, separate from real data.

All its files are in `.demo/`. A second start continues where the first one stopped.
"""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import DEVNULL
from zoneinfo import ZoneInfo

from dixa_assets.launch.console import banner
from dixa_assets.launch.dagster_dev import prepare_home, serve
from dixa_assets.launch.processes import running_module

FOLDER = Path(".demo")
KEY = "dixa-demo-key"
TIMEZONE = "Europe/Copenhagen"
HISTORY_DAYS = 30
# Long enough to look around first, short enough that people still watch.
METRIC_APPEARS_AFTER_SECONDS = 180


def start(port: int) -> int:
    """Serve the simulator and Dagster until Dagster ends; return the exit code."""
    folder = FOLDER.absolute()
    home, database = folder / "dagster_home", folder / "dixa.duckdb"
    prepare_home(home)
    # At a later start the metric is there at once. Otherwise it would disappear and come back.
    delay = 0 if database.exists() else METRIC_APPEARS_AFTER_SECONDS
    env = _environment(folder, database)
    simulated = ["dixa_assets.simulator", "--port", "0", "--add-metric-after", str(delay)]
    with running_module(simulated, env=env, cwd=folder, grace=0.5) as simulator:
        # "Dixa simulator listening on <address>"
        address = simulator.stdout.readline().split()[-1:] if simulator.stdout else []
        if not address:
            return 1
        print(_banner(port), flush=True)
        env["DIXA_BASE_URL"] = address[0]
        probe = ["dixa_assets", "probe"]
        # The probe needs no DAGSTER_HOME: its findings change nothing in the demo.
        with running_module(probe, env=env, cwd=folder, stderr=DEVNULL, grace=0.5):
            return serve(
                ["-w", _workspace(folder)],
                port=port,
                home=home,
                env=env,
                # In the project's folder, Dagster would read the .env of the real account.
                cwd=folder,
                log=folder / "dagster.log",
            )


def _environment(folder: Path, database: Path) -> dict[str, str]:
    # The settings of a real account must not reach the demo.
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DIXA_") and name != "DAGSTER_HOME"
    }
    return outside | {
        "DIXA_API_KEY": KEY,
        "DIXA_TIMEZONE": TIMEZONE,
        "DIXA_START_DATE": _first_day(folder / "start_date"),
        "DIXA_HISTORY_DAYS": str(HISTORY_DAYS),
        "DIXA_DUCKDB_PATH": str(database),
        "DIXA_READ_COPY_PATH": str(folder / "dixa_read.duckdb"),
        "DIXA_CATALOGUE_REFRESH_SECONDS": "30",
    }


def _banner(port: int) -> str:
    return banner(
        "A simulated Dixa, loading into Dagster: first numbers in half a minute, all in three.",
        ui=f"http://127.0.0.1:{port}",
        report=FOLDER / "dixa_report.html",
        read_copy=FOLDER / "dixa_read.duckdb",
        log=FOLDER / "dagster.log",
        ending="Ctrl-C stops everything. The next start continues from here.",
        probe=FOLDER / "probe.md",
    )


def _first_day(file: Path) -> str:
    """The first day of the first start, saved in a file for later starts."""
    if not file.exists():
        day = datetime.now(ZoneInfo(TIMEZONE)).date() - timedelta(days=HISTORY_DAYS)
        file.write_text(day.isoformat())
    return file.read_text().strip()


def _workspace(folder: Path) -> str:
    module = {"module_name": "dixa_assets.launch.demo_definitions", "location_name": "dixa_assets"}
    path = folder / "workspace.yaml"
    path.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    return str(path)
