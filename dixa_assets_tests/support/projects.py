"""Projects of `dg` that tests write, and the stored catalogue that they are built from."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.defs_state.base import set_defs_state_storage

from dixa_assets.component import DixaAnalytics
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration import state
from dixa_assets.orchestration.dagster_internals import DefsStateStorage

PYPROJECT = """
[project]
name = "{package}"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{package}"
code_location_name = "{package}"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def write_project(folder: Path, **components: str) -> Path:
    """Write a project, with a component for each name and the text of its `defs.yaml`.

    Args:
        folder: The project's folder. Its name makes the name of the package, so a process can
            import the packages of several tests.
        components: The files, whose type may be left out.

    Returns:
        The package's folder. Definitions of other people go to `defs` in it.
    """
    package = folder / re.sub(r"\W", "_", folder.name)
    (package / "defs").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(package=package.name))
    for name, text in components.items():
        (package / "defs" / name).mkdir()
        kind = "" if "type: " in text else "type: dixa_assets.component.DixaAnalytics\n"
        (package / "defs" / name / "defs.yaml").write_text(kind + text)
    return package


@contextmanager
def stored_catalogue(
    instance: dg.DagsterInstance, analytics: DixaAnalytics, catalogue: Catalogue
) -> Iterator[DefsStateStorage]:
    """Store a catalogue in Dagster's state storage, from which the block builds definitions."""
    storage = instance.defs_state_storage
    assert storage is not None
    state.save(storage, analytics.defs_state_config.key, catalogue)
    with set_defs_state_storage(storage):
        yield storage
