"""`make dev`: the Dagster UI with your own Dixa account, configured in `.env`."""

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from dixa_assets.launch.dagster_dev import serve


def start(port: int) -> int:
    """Serve Dagster until it ends; return its exit code, or 1 for an invalid setting."""
    from dixa_assets.errors import DixaAssetsError
    from dixa_assets.project import load_component

    load_dotenv(Path.cwd() / ".env", override=True)
    try:
        component = load_component()
    except DixaAssetsError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
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
