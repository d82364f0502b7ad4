"""Paths and addresses in settings: resolved to absolute paths, or rejected."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from dixa_assets.errors import ConfigError
from dixa_assets.model.tables import LAKE_SCHEME

# Files that make a folder a project, for Python and for `dg`.
PROJECT_FILES = ("pyproject.toml", "dg.toml")
# DuckDB reads these as file name patterns, or as the start of parameters.
PATTERNS = "?*[]"
_project: ContextVar[Path | None] = ContextVar("project", default=None)


@contextmanager
def beginning_at(folder: Path) -> Iterator[None]:
    """Inside the block, relative paths start at this folder."""
    token = _project.set(folder)
    try:
        yield
    finally:
        _project.reset(token)


def resolved(setting: str, text: str) -> Path:
    """Return the absolute path of a file in a setting, without `~` and symbolic links."""
    if not text.strip() or any(ord(letter) < 32 for letter in text):
        raise ConfigError(setting, f"{text!r} is not the path of a file.")
    try:
        full = (_project.get() or _project_of(Path.cwd())) / Path(text).expanduser()
        found = full.resolve()
        is_folder = found.is_dir() or text.endswith(("/", os.sep))
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(setting, f"'{text}' cannot be a path ({error}).") from None
    if is_folder:
        raise ConfigError(setting, f"'{text}' is a folder; name a file in it.")
    return found


def database_path(setting: str, text: str) -> Path:
    """Return the absolute path of a file that DuckDB opens, without patterns and schemes."""
    scheme, colon, _ = text.partition(":")
    # A single letter is a drive.
    if colon and len(scheme) != 1 and not set(scheme) & {"/", os.sep}:
        raise ConfigError(
            setting, f"'{text}' is not a file on this machine, and '{scheme}:' is not supported."
        )
    found = resolved(setting, text)
    if patterns := [letter for letter in PATTERNS if letter in str(found)]:
        raise ConfigError(
            setting,
            f"'{found}' contains {' and '.join(patterns)}, which DuckDB reads as a pattern or as "
            "parameters. Choose another name.",
        )
    return found


def database_address(setting: str, address: str) -> str:
    """The absolute path of a database file, or the address of a lake without a password."""
    if not address.startswith(LAKE_SCHEME):
        return str(database_path(setting, address))
    if not find_spec("psycopg"):
        raise ConfigError(setting, "is a lake: install dixa-assets with the extra 'lake'.")
    if "://" in address:
        raise ConfigError(setting, f"must be like {LAKE_SCHEME}dbname=… host=… user=….")
    _refuse_password(setting, address)
    return address


def postgres_url(setting: str, url: str) -> str:
    """The address of a Postgres, without a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(setting, f"is not an address: {error}.") from None
    if not find_spec("psycopg"):
        raise ConfigError(setting, "needs psycopg: install dixa-assets with the extra 'postgres'.")
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigError(setting, "must be like postgresql://user@host/database.")
    _refuse_password(setting, f"password={parts.password}" if parts.password else parts.query)
    return url


def published_path(setting: str, path: str, *, of_lake: bool) -> str:
    """The absolute path of a published file. For a lake it must be absolute in the setting."""
    if of_lake and not Path(path).expanduser().is_absolute():
        raise ConfigError(
            setting,
            f"'{path}' would be on a different machine for each run. Set an absolute path, in a "
            "folder that all machines have.",
        )
    return str(database_path(setting, path))


def folder_address(setting: str, text: str) -> str:
    """The absolute path of a folder, or an address in a bucket, without credentials."""
    scheme, is_address, rest = text.strip().partition("://")
    if is_address:
        if not scheme.isalnum() or not rest or set(rest) & set("@?#"):
            raise ConfigError(
                setting, "must be like s3://bucket/folder, without credentials or parameters."
            )
        return text.strip().rstrip("/")
    folder = resolved(setting, f"{text.rstrip('/') or text}/-").parent
    if folder.exists() and not folder.is_dir():
        raise ConfigError(setting, f"'{text}' is a file; name a folder.")
    return str(folder)


def _refuse_password(setting: str, text: str) -> None:
    if re.search(r"password\s*=", text):
        raise ConfigError(
            setting,
            "must not contain the password, which would be shown with the settings; Postgres reads "
            "it from PGPASSFILE or PGPASSWORD.",
        )


def _project_of(folder: Path) -> Path:
    """The project that contains a folder; outside of any project, the folder itself."""
    for place in (folder, *folder.parents):
        if any((place / mark).is_file() for mark in PROJECT_FILES):
            return place
    return folder
