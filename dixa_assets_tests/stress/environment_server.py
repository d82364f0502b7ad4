"""Runs commands in processes with any environment, forked from one that has the slow imports.

The server reads a case as a line of JSON from stdin and answers with the exit code on stdout. It
runs without UTF-8 mode, so that a case can choose its encoding.
"""

import io
import json
import locale
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg

from dixa_assets.__main__ import main
from dixa_assets.api.catalogue import fetch_catalogue
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import state
from dixa_assets.project import load_component

OWN_USER = os.getuid()
DAY = "2025-11-05"
LOADED = ("dixa_metrics/csat", "dixa_records/ratings", "dixa/report", "dixa/read_copy")


def load() -> int:
    """Load a day of two assets and publish, through Dagster; print each failure as commands do."""
    component = load_component()
    with state.home_instance() as instance:
        with component.build_dixa(component.api_key).client() as client:
            catalogue = fetch_catalogue(client, Catalogue())[0]
        if instance and instance.defs_state_storage:
            state.save(instance.defs_state_storage, component.defs_state_config.key, catalogue)
        definitions = component.build_definitions(catalogue)
        assets = [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)]
        known = {key.to_user_string() for one in assets for key in one.keys}
        result = dg.materialize(
            assets,
            selection=[dg.AssetKey(key.split("/")) for key in LOADED if key in known],
            resources=component.build_resources(component.api_key),
            partition_key=DAY,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            raise_on_error=False,
        )
    for event in result.get_step_failure_events():
        data = event.step_failure_data
        own = data.user_failure_data
        print(f"✗ {own.description if own else data.error_display_string}", file=sys.stderr)
    print(f"✓ {len(result.get_asset_materialization_events())} materializations")
    return 0 if result.success else 1


def _run(case: dict[str, Any]) -> int:
    """Take on the case's environment and run its command."""
    os.environ.clear()
    os.environ.update(case["environment"])
    # A process reads these when it starts.
    tempfile.tempdir = None
    locale.setlocale(locale.LC_ALL, case["locale"])
    os.chdir(case["folder"])
    os.umask(case["umask"])
    if case["most_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (case["most_bytes"], case["most_bytes"]))
    if case["user"] != os.getuid():
        os.setgroups([])
        os.setgid(case["user"])
        os.setuid(case["user"])
    sys.path.insert(0, case["folder"])
    sys.argv = ["dixa_assets", case["command"]]
    commands: dict[str, Callable[[], int]] = {"load": _as_command(load)}
    return commands.get(case["command"], main)()


def _as_command(run: Callable[[], int]) -> Callable[[], int]:
    """A function with the errors of a command, and without Dagster's log."""

    def command() -> int:
        from dixa_assets.errors import DixaAssetsError
        from dixa_assets.project import read_env_file
        from dixa_assets.settings.messages import accept_every_character

        accept_every_character()
        try:
            read_env_file()
            return run()
        except (DixaAssetsError, OSError) as error:
            print(f"✗ {error}", file=sys.stderr)
            return 1

    return command


def _in_child(case: dict[str, Any]) -> int:
    """The exit code of a case; the output is in the files `out` and `err`."""
    code = 1
    for number, name in ((1, "out"), (2, "err")):
        with Path(case[name]).open("wb") as file:
            os.dup2(file.fileno(), number)
    own = {"encoding": case["encoding"], "line_buffering": True}
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), **own)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), errors="backslashreplace", **own)
    try:
        code = _run(case)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if os.getuid() == OWN_USER:
        Path(case["modules"]).write_text("\n".join(sys.modules))
    return code


def _import_what_was_imported(modules: Path) -> None:
    """Import the modules of an ended case: another user may not read the folder of Python."""
    for name in modules.read_text().split() if modules.exists() else ():
        with suppress(ImportError):
            import_module(name)


def serve() -> None:
    """Answer cases until stdin ends."""
    for line in sys.stdin:
        case = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = _in_child(case)
                sys.stdout.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        _import_what_was_imported(Path(case["modules"]))
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
