"""Paths and addresses in settings: resolved to absolute paths, or rejected."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

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
    # A single letter is a drive. The address of a server may hold a password.
    if colon and len(scheme) != 1 and not set(scheme) & {"/", os.sep}:
        raise ConfigError(
            setting, f"is not a file on this machine, and '{scheme}:' is not supported."
        )
    found = resolved(setting, text)
    if patterns := [letter for letter in PATTERNS if letter in str(found)]:
        raise ConfigError(
            setting,
            f"'{found}' contains {' and '.join(patterns)}, which DuckDB reads as a pattern or as "
            "parameters. Choose another name.",
        )
    return found


def database_address(address: str) -> str:
    """The absolute path of a database file, or the address of a lake without a password."""
    if not address.startswith(LAKE_SCHEME):
        return str(database_path("duckdb_path", address))
    if not find_spec("psycopg"):
        raise ConfigError("duckdb_path", "is a lake: install dixa-assets with the extra 'lake'.")
    if "://" in address:
        raise ConfigError("duckdb_path", f"must be like {LAKE_SCHEME}dbname=… host=… user=….")
    _refuse_password("duckdb_path", address)
    return address


def lake_place(place: str) -> str:
    """The folder or the address of a lake's rows, without keys."""
    if not Path(place).is_absolute() and set(place) & {"@", "?"}:
        raise ConfigError(
            "lake_data",
            "must not contain keys, which would be shown with the settings; DuckDB reads them from "
            "the environment variables of the store.",
        )
    return place


def postgres_url(url: str) -> str:
    """The address of a Postgres, without a password; empty for none."""
    if not url:
        return ""
    if not find_spec("psycopg"):
        raise ConfigError("pace_url", "needs psycopg: install the extra dixa-assets[postgres].")
    scheme, _, rest = unquote(url).partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise ConfigError("pace_url", "must be like postgresql://user@host/database.")
    user, at, _ = rest.partition("?")[0].rpartition("@")
    _refuse_password("pace_url", "password=" if at and ":" in user else rest)
    return url


def published_path(setting: str, path: str, *, of_lake: bool) -> str:
    """The absolute path of a published file. For a lake it must be absolute in the setting."""
    found = database_path(setting, path)
    if of_lake and not Path(path).expanduser().is_absolute():
        raise ConfigError(
            setting,
            f"'{path}' would be on a different machine for each run. Set an absolute path, in a "
            "folder that all machines have.",
        )
    return str(found)


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
