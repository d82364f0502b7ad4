"""`make dev`: the Dagster UI with your own Dixa account, configured in `.env`."""

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from dixa_assets.launch.console import banner, relative_to_cwd
from dixa_assets.launch.dagster_dev import prepare_home, serve

HOME = Path(".dagster_home")


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
    report, read_copy = component.report_file, component.read_copy_path
    home = HOME.absolute()
    prepare_home(home)
    print(
        banner(
            f"Dixa at {component.base_url}, loading into Dagster.",
            ui=f"http://127.0.0.1:{port}",
            report=relative_to_cwd(report) if report else None,
            read_copy=relative_to_cwd(Path(read_copy)) if read_copy else None,
            log=HOME / "dagster.log",
            ending="Ctrl-C stops it. The next start continues from here.",
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
