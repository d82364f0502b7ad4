"""`make dev`: the Dagster UI with your own Dixa account, configured in `.env`."""

import os
from pathlib import Path

from dotenv import load_dotenv

from dixa_assets.launch.dagster_dev import serve


def start(port: int) -> int:
    """Serve Dagster until it ends and return its exit code."""
    from dixa_assets.project import load_component

    load_dotenv(Path.cwd() / ".env", override=True)
    component = load_component()
    home = Path(".dagster_home").absolute()
    return serve(
        f"Dixa at {component.base_url}, loading into Dagster.",
        ["-w", "workspace.yaml"],
        port=port,
        home=home,
        log=home / "dagster.log",
        env=os.environ,
        cwd=Path.cwd(),
        report=component.report_file,
        read_copy=Path(component.read_copy_path) if component.read_copy_path else None,
    )
