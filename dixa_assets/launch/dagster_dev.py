"""`dagster dev` with a quiet console: what the demo and one's own account have in common."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dixa_assets.launch.console import Console, recorder
from dixa_assets.launch.processes import started
from dixa_assets.zones import newest_rules_for_others

# One planned event for each asset of a run instead of one for each of its days, which for a year
# of 40 assets take two minutes to write. Days that fail are then shown as missing, not as failed.
PLANNING = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}
# A backfill goes on when a new metric reloads the definitions in the middle of it.
GOING_ON = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}
# `dg dev` would read the project's folder, and the .env of the real account, in the demo too.
NO_ADVICE = {"PYTHONWARNINGS": "ignore:Function `dev_command` is superseded"}


def prepare_home(home: Path) -> None:
    """Make DAGSTER_HOME, with the project's dagster.yaml in it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").unlink(missing_ok=True)
    (home / "dagster.yaml").symlink_to(Path("dagster.yaml").absolute())


def serve(
    target: Sequence[str], *, port: int, home: Path, env: Mapping[str, str], cwd: Path, log: Path
) -> int:
    """Run `dagster dev` to its end and show what matters of its output; return the exit code."""
    console, record = Console(f"http://127.0.0.1:{port}"), recorder(log)
    # Daemon and webserver make days too, and do not import this project.
    zones = newest_rules_for_others()
    own = {**env, "DAGSTER_HOME": str(home), **PLANNING, **GOING_ON, **NO_ADVICE, **zones}
    command = ["dagster", "dev", *target, "-p", str(port)]
    with started(command, env=own, cwd=cwd, stderr=subprocess.STDOUT, last_words=record) as dagster:
        for line in dagster.stdout or ():
            for each in console.shown(record(line)):
                print(each, flush=True)
        code = dagster.wait()
    print(f"Dagster has ended with code {code}; its last words are in {log}", file=sys.stderr)
    return code
