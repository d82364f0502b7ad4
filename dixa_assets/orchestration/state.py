"""The stored catalogue: its versions in Dagster's state storage.

A code location and its runs use one version on every machine. The catalogue sensor and
`dg utils refresh-defs-state` store new versions. See
https://docs.dagster.io/guides/build/components/state-backed-components
"""

import logging
import os
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dixa_assets.errors import ConfigError
from dixa_assets.model.catalogue import Catalogue
from dixa_assets.orchestration.dagster_internals import (
    DefinitionsLoadContext,
    DefsStateStorage,
    storage_errors,
)

# The home without DAGSTER_HOME, in the working folder.
HOME = ".dagster_home"
# `python -m dixa_assets catalogue` writes this file beside the `defs.yaml`, to be committed. A code
# location without a stored catalogue is built from it.
COMMITTED = "catalogue.json"
logger = logging.getLogger(__name__)


def dagster_home() -> Path:
    """The folder of Dagster's history, for every command: DAGSTER_HOME, or `.dagster_home`."""
    chosen = os.environ.get("DAGSTER_HOME")
    if chosen and not (Path(chosen).is_absolute() and Path(chosen).is_dir()):
        raise ConfigError("DAGSTER_HOME", f"'{chosen}' is not the absolute path of a folder.")
    home = Path(chosen) if chosen else Path.cwd() / HOME
    if home.exists() and not os.access(home, os.R_OK | os.X_OK):
        raise ConfigError("DAGSTER_HOME", f"this user may not read {home}.")
    return home


@contextmanager
def home_instance() -> Iterator[dg.DagsterInstance | None]:
    """The instance of `dagster_home`; None if nothing was started there yet."""
    with _usable_home() as home:
        if not (home / "dagster.yaml").exists():
            yield None
            return
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


@contextmanager
def _usable_home() -> Iterator[Path]:
    """Turn errors of Dagster's storage into `ConfigError`. Their messages have many lines."""
    home = dagster_home()
    try:
        yield home
    except storage_errors() as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        raise ConfigError("DAGSTER_HOME", f"{home} cannot be used: {reason}") from None


def load(storage: DefsStateStorage, key: str, version: str | None = None) -> Catalogue | None:
    """Load a version, by default the latest; None if it is missing or unreadable."""
    version = version or storage.get_latest_version(key)
    if version is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            storage.download_state_to_path(key, version, path)
            return read(path)
    except (OSError, ValueError) as error:
        logger.warning(
            "catalogue %s of %s cannot be read (%s); it is fetched again", version, key, error
        )
        return None


def save(storage: DefsStateStorage, key: str, catalogue: Catalogue) -> None:
    """Store the catalogue as the latest version."""
    with _usable_home(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        write(path, catalogue)
        storage.upload_state_from_path(key, catalogue.version, path)


def read(path: Path) -> Catalogue:
    """Read the catalogue from a file."""
    return Catalogue.from_json(path.read_text(encoding="utf-8"))


def write(path: Path, catalogue: Catalogue) -> None:
    """Write the catalogue to a file."""
    path.write_text(catalogue.to_json(), encoding="utf-8")


def pin(key: str) -> str | None:
    """The version that this process builds its definitions from; None before the first.

    Dagster gives code locations and runs a version. Its command line gives none: then the latest
    version is pinned and passed on to the run.
    """
    context, storage = DefinitionsLoadContext.get(), DefsStateStorage.get()
    known = context.get_defs_key_state_info(key)
    if known is not None:
        return known.version
    version = storage.get_latest_version(key) if storage else None
    if version is not None:
        context.add_defs_state_info(key, version)
    return version


def pinned(key: str) -> Catalogue:
    """The catalogue that this process builds its definitions from; empty before the first."""
    storage, version = DefsStateStorage.get(), pin(key)
    known = load(storage, key, version) if storage and version else None
    return known or Catalogue()
