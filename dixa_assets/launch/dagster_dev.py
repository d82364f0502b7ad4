"""Runs `dagster dev` with a short console output, for `demo` and `dev`."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dixa_assets.launch.console import Console, log_writer
from dixa_assets.launch.processes import running_module
from dixa_assets.zones import newest_rules_for_others

# One planned event per asset of a run instead of one per day: the events of a year of 40 assets
# take two minutes to write. The UI then shows failed days as missing.
PLANNED_EVENTS = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}
# A backfill continues after a new metric reloads the definitions.
CONTINUED_BACKFILLS = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}
# Dagster recommends `dg dev`, which would read the .env of the real account in the demo too.
HIDDEN_WARNING = {"PYTHONWARNINGS": "ignore:Function `dev_command` is superseded"}


def prepare_home(home: Path) -> None:
    """Create DAGSTER_HOME with a link to the project's dagster.yaml."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").unlink(missing_ok=True)
    (home / "dagster.yaml").symlink_to(Path("dagster.yaml").absolute())


def serve(
    target: Sequence[str], *, port: int, home: Path, env: Mapping[str, str], cwd: Path, log: Path
) -> int:
    """Run `dagster dev` until it ends, show its important output, and return the exit code."""
    console, write = Console(f"http://127.0.0.1:{port}"), log_writer(log)
    # The daemon and the webserver compute days too, but do not import this project.
    zones = newest_rules_for_others()
    dagster_env = {"DAGSTER_HOME": str(home), **PLANNED_EVENTS, **CONTINUED_BACKFILLS}
    own = {**env, **dagster_env, **HIDDEN_WARNING, **zones}
    command = ["dagster", "dev", *target, "-p", str(port)]
    with running_module(
        command, env=own, cwd=cwd, stderr=subprocess.STDOUT, on_final_line=write
    ) as dagster:
        for line in dagster.stdout or ():
            for text in console.lines_to_show(write(line)):
                print(text, flush=True)
        code = dagster.wait()
    print(f"Dagster has ended with exit code {code}. Its last output is in {log}", file=sys.stderr)
    return code
