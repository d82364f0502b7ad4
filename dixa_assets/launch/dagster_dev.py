"""Runs `dagster dev` with a short console output, for `demo` and `dev`."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dixa_assets.errors import DixaAssetsError
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
    resume: str = "",
    **places: Path | None,
) -> int:
    """Run `dagster dev` until it ends, show its important output, and return the exit code.

    `home` gets a link to the project's dagster.yaml, unless it has a file of this name; `places`
    are further arguments of `banner`. `resume` is the command that loads `{assets}` and `{days}`.
    """
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
    # The daemon and the webserver compute days too, but do not import this project.
    env = {**env, "DAGSTER_HOME": str(home), **SETTINGS, **newest_rules_for_others()}
    command, ui = ["dagster", "dev", *target, "-p", str(port)], f"http://127.0.0.1:{port}"
    with _only_one(home, ui):
        print(banner(title, ui=ui, log=log, **places), flush=True)
        if (home / "history").is_dir():
            # Dagster takes a second to import, and a first start needs nothing of it.
            from dixa_assets.launch.stopped import missing_days

            if missing := missing_days(home, resume):
                print(missing, flush=True)
        with running_module(
            command, env=env, cwd=cwd, stderr=subprocess.STDOUT, on_final_line=write
        ) as dagster:
            for line in lines_to_show(map(write, dagster.stdout or ()), ui):
                print(line, flush=True)
            code = dagster.wait()
    print(f"Dagster has ended with exit code {code}. Its last output is in {log}", file=sys.stderr)
    return code


@contextmanager
def _only_one(home: Path, ui: str) -> Iterator[None]:
    """Refuse a second start with the same history: two daemons would start each load twice."""
    running = home / "running"
    try:
        with FileLock(f"{running}.lock", blocking=False):
            running.write_text(f"{ui} (process {os.getpid()})", encoding="utf-8")
            yield
    except Timeout:
        where = running.read_text(encoding="utf-8") if running.exists() else "on another port"
        raise DixaAssetsError(
            f"Dagster is already running here: {where}. Open that address, or stop it first."
        ) from None
