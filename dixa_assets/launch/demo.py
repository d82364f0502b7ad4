"""The demo: a simulated Dixa and a Dagster UI over it, data apart from real data.

Everything it keeps is in `.demo/`; a second start goes on where the first one ended.
"""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import DEVNULL
from zoneinfo import ZoneInfo

from dixa_assets.launch.console import banner
from dixa_assets.launch.dagster_dev import prepare_home, serve
from dixa_assets.launch.processes import started

FOLDER = Path(".demo")
KEY = "dixa-demo-key"
TIMEZONE = "Europe/Copenhagen"
HISTORY_DAYS = 30
# Long enough to look around first, short enough to still be looking.
METRIC_APPEARS_AFTER_SECONDS = 180


def start(port: int) -> int:
    """Serve simulator and Dagster until Dagster ends; returns the exit code."""
    folder = FOLDER.absolute()
    home, database = folder / "dagster_home", folder / "dixa.duckdb"
    prepare_home(home)
    # A metric that has appeared once is there from the start, or it would come and go.
    delay = 0 if database.exists() else METRIC_APPEARS_AFTER_SECONDS
    # Settings of a real account must not reach the demo.
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DIXA_") and name != "DAGSTER_HOME"
    }
    env |= {
        "DIXA_API_KEY": KEY,
        "DIXA_TIMEZONE": TIMEZONE,
        "DIXA_START_DATE": _first_day(folder / "start_date"),
        "DIXA_HISTORY_DAYS": str(HISTORY_DAYS),
        "DIXA_DUCKDB_PATH": str(database),
        "DIXA_READ_COPY_PATH": str(folder / "dixa_read.duckdb"),
        "DIXA_CATALOGUE_REFRESH_SECONDS": "30",
    }
    simulated = ["dixa_assets.simulator", "--port", "0", "--add-metric-after", str(delay)]
    with started(simulated, env=env, cwd=folder, grace=0.5) as simulator:
        # "Dixa simulator listening on <address>"
        address = simulator.stdout.readline().split()[-1:] if simulator.stdout else []
        if not address:
            return 1
        print(
            banner(
                "A simulated Dixa, loading into Dagster: numbers in half a minute, all in three.",
                ui=f"http://127.0.0.1:{port}",
                report=FOLDER / "dixa_report.html",
                read_copy=FOLDER / "dixa_read.duckdb",
                log=FOLDER / "dagster.log",
                ending="Ctrl-C stops it all; the next start goes on from here.",
                probe=FOLDER / "probe.md",
            ),
            flush=True,
        )
        env["DIXA_BASE_URL"] = address[0]
        # It has asked before Dagster has started. Nothing is to be adapted, so it needs no home.
        with started(["dixa_assets", "probe"], env=env, cwd=folder, stderr=DEVNULL, grace=0.5):
            return serve(
                ["-w", _workspace(folder)],
                port=port,
                home=home,
                env=env,
                # Not from the project's folder: Dagster would read the .env of the real account.
                cwd=folder,
                log=folder / "dagster.log",
            )


def _first_day(note: Path) -> str:
    """The first of the days that the first start loads, noted for the starts after it."""
    if not note.exists():
        day = datetime.now(ZoneInfo(TIMEZONE)).date() - timedelta(days=HISTORY_DAYS)
        note.write_text(day.isoformat())
    return note.read_text().strip()


def _workspace(folder: Path) -> str:
    module = {"module_name": "dixa_assets.launch.demo_definitions", "location_name": "dixa_assets"}
    path = folder / "workspace.yaml"
    path.write_text(json.dumps({"load_from": [{"python_module": module}]}))
    return str(path)
