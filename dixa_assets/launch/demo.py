"""`make demo`: a simulated Dixa with the Dagster UI, separate from real data.

All its files are in `.demo/`. A second start continues where the first one stopped.
"""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import DEVNULL
from zoneinfo import ZoneInfo

from dixa_assets.files import make_folder
from dixa_assets.launch.dagster_dev import serve
from dixa_assets.launch.processes import running_module

TIMEZONE = "Europe/Copenhagen"
# Every five weeks have the whole story of the simulated Dixa.
HISTORY_DAYS = 35
# These are not loaded, so that people can try a backfill.
OLDER_DAYS = 14
# Long enough to look around first, short enough that people still watch.
METRIC_APPEARS_AFTER_SECONDS = 180


def start(port: int) -> int:
    """Serve the simulator and Dagster until Dagster ends; return the exit code."""
    folder = Path(".demo").absolute()
    make_folder(folder, ".demo")
    database, read_copy = folder / "dixa.duckdb", folder / "dixa_read.duckdb"
    # A later start loads from the same first day.
    first_day = folder / "start_date"
    if not first_day.exists():
        today = datetime.now(ZoneInfo(TIMEZONE)).date()
        day = today - timedelta(days=HISTORY_DAYS + OLDER_DAYS)
        first_day.write_text(day.isoformat(), encoding="utf-8")
    # Dagster's history belongs to a code location of this name.
    module = {"module_name": "dixa_assets.launch.demo_definitions", "location_name": "dixa_assets"}
    workspace = folder / "workspace.yaml"
    workspace.write_text(json.dumps({"load_from": [{"python_module": module}]}), "utf-8")
    # The settings of a real account must not reach the demo.
    env = {name: value for name, value in os.environ.items() if not name.startswith("DIXA_")} | {
        "DIXA_API_KEY": "dixa-demo-key",
        "DIXA_TIMEZONE": TIMEZONE,
        "DIXA_START_DATE": first_day.read_text("utf-8").strip(),
        "DIXA_HISTORY_DAYS": str(HISTORY_DAYS),
        "DIXA_DUCKDB_PATH": str(database),
        "DIXA_READ_COPY_PATH": str(read_copy),
        "DIXA_CATALOGUE_REFRESH_SECONDS": "30",
    }
    # The probe needs no Dagster home: its findings change nothing in the demo.
    env.pop("DAGSTER_HOME", None)
    # At a later start the metric is there at once. Otherwise it would disappear and come back.
    delay = 0 if database.exists() else METRIC_APPEARS_AFTER_SECONDS
    simulated = ["dixa_assets.simulator", "--port", "0", "--edge-share", "0.02"]
    simulated += ["--add-metric-after", str(delay)]
    with running_module(simulated, env=env, cwd=folder, grace=0.5) as simulator:
        # "Dixa simulator listening on <address>"
        address = simulator.stdout.readline().split()[-1:] if simulator.stdout else []
        if not address:
            return 1
        env["DIXA_BASE_URL"] = address[0]
        probe = ["dixa_assets", "probe"]
        with running_module(probe, env=env, cwd=folder, stderr=DEVNULL, grace=0.5):
            return serve(
                "A simulated Dixa, loading into Dagster: first numbers in half a minute, all in "
                "three.",
                ["-w", str(workspace)],
                port=port,
                home=folder / "dagster_home",
                log=folder / "dagster.log",
                env=env,
                # In the project's folder, Dagster would read the .env of the real account.
                cwd=folder,
                resume="select {assets} in the UI, press Materialize and choose {days}",
                report=folder / "dixa_report.html",
                read_copy=read_copy,
                probe=folder / "probe.md",
            )
