"""`make dev`: the Dagster UI with your own Dixa account, configured in `.env`."""

import os
from pathlib import Path

from dixa_assets.launch.dagster_dev import serve


def start(port: int) -> int:
    """Serve Dagster until it ends; return its exit code."""
    from dixa_assets.orchestration.state import dagster_home
    from dixa_assets.project import load_component, read_env_file

    read_env_file()
    component, home = load_component(), dagster_home()
    return serve(
        f"Dixa at {component.base_url}, loading into Dagster. Its history is in {home}.",
        ["-w", "workspace.yaml"],
        port=port,
        home=home,
        log=home / "dagster.log",
        env=os.environ,
        cwd=Path.cwd(),
        resume="make load ASSETS={assets} DAYS={days}",
        report=component.report_file,
        read_copy=Path(component.read_copy_path) if component.read_copy_path else None,
    )
