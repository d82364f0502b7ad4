"""Your own Dixa account with the Dagster UI, configured in `.env`."""

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from dixa_assets.launch.console import banner, from_here
from dixa_assets.launch.dagster_dev import prepare_home, serve

HOME = Path(".dagster_home")


def start(port: int) -> int:
    """Serve Dagster until it ends; return the exit code."""
    from dixa_assets.errors import DixaAssetsError
    from dixa_assets.project import load_component

    load_dotenv(Path.cwd() / ".env", override=True)
    try:
        component = load_component()
    except DixaAssetsError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    home = HOME.absolute()
    prepare_home(home)
    print(
        banner(
            f"Dixa at {component.base_url}, loading into Dagster.",
            ui=f"http://127.0.0.1:{port}",
            report=from_here(component.report_file) if component.report_file else None,
            read_copy=from_here(Path(component.read_copy_path))
            if component.read_copy_path
            else None,
            log=HOME / "dagster.log",
            ending="Ctrl-C stops it; the next start goes on from here.",
        ),
        flush=True,
    )
    return serve(
        ["-w", "workspace.yaml"],
        port=port,
        home=home,
        env=os.environ,
        cwd=Path.cwd(),
        log=home / "dagster.log",
    )
