"""Runs `dagster dev` with a short console output, for `demo` and `dev`."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dixa_assets.files import make_folder, unwritable
from dixa_assets.launch.console import banner, lines_to_show, log_writer
from dixa_assets.launch.processes import running_module
from dixa_assets.zones import newest_rules_for_others

SETTINGS = {
    # One planned event per asset of a run instead of one per day: the events of a year of 40 assets
    # take two minutes to write. The UI then shows failed days as missing.
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
    # A backfill continues after a new metric reloads the definitions.
    "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",
    # Dagster recommends `dg dev`, which would read the .env of the real account in the demo too.
    "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
    # Dagster and its processes write UTF-8, whatever the locale.
    "PYTHONUTF8": "1",
}


def serve(
    title: str,
    target: Sequence[str],
    *,
    port: int,
    home: Path,
    log: Path,
    env: Mapping[str, str],
    cwd: Path,
    **places: Path | None,
) -> int:
    """Run `dagster dev` until it ends, show its important output, and return the exit code.

    `home` gets a link to the project's dagster.yaml, unless it has a file of this name; `places`
    are further arguments of `banner`.
    """
    ui = f"http://127.0.0.1:{port}"
    settings = home / "dagster.yaml"
    make_folder(home, "DAGSTER_HOME")
    try:
        # The project may have moved. A folder elsewhere keeps the file that its user chose.
        if settings.is_symlink() and home.is_relative_to(Path.cwd()):
            settings.unlink()
        if not settings.exists():
            settings.symlink_to(Path("dagster.yaml").absolute())
        write = log_writer(log)
    except OSError as error:
        raise unwritable("DAGSTER_HOME", home, error) from None
    print(banner(title, ui=ui, log=log, **places), flush=True)
    # The daemon and the webserver compute days too, but do not import this project.
    env = {**env, "DAGSTER_HOME": str(home), **SETTINGS, **newest_rules_for_others()}
    command = ["dagster", "dev", *target, "-p", str(port)]
    with running_module(
        command, env=env, cwd=cwd, stderr=subprocess.STDOUT, on_final_line=write
    ) as dagster:
        for line in lines_to_show(map(write, dagster.stdout or ()), ui):
            print(line, flush=True)
        code = dagster.wait()
    print(f"Dagster has ended with exit code {code}. Its last output is in {log}", file=sys.stderr)
    return code
