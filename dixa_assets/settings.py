"""What users write in settings: paths made plain, and mistakes told in their own words."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from dagster import DagsterError
from dagster.components.resolved.errors import ResolutionException
from pydantic import ValidationError
from yaml import MarkedYAMLError

from dixa_assets.errors import ConfigError, DixaAssetsError
from dixa_assets.model.tables import LAKE_SCHEME
from dixa_assets.model.unknown import hint, unknown_variables

# What makes a folder a project, for Python as for `dg`.
MARKS = ("pyproject.toml", "dg.toml")
# DuckDB takes these for patterns of several files, or for the beginning of parameters.
PATTERNS = "?*[]"
# What was wanted, for each kind of error that pydantic tells of a value.
KINDS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "a text",
    "dict_type": "a mapping",
    "list_type": "a list",
    "sequence_str": "a list",
    "is_instance_of": "a list",
}
# What a `defs.yaml` may say.
FILE_KEYS = ("type", "attributes", "template_vars_module", "requirements", "post_processing")

_project: ContextVar[Path | None] = ContextVar("project", default=None)


@contextmanager
def beginning_at(project: Path) -> Iterator[None]:
    """Relative paths begin at `project` in the block, otherwise at the working folder's project."""
    token = _project.set(project)
    try:
        yield
    finally:
        _project.reset(token)


def resolved(setting: str, path: str | Path, *, base: Path | None = None) -> Path:
    """The one absolute path of a file that a setting means, without `~` and symbolic links.

    Args:
        setting: Named when the path is refused.
        path: As the user wrote it.
        base: Where relative paths begin; by default at the project.
    """
    text = str(path)
    if not text.strip() or any(ord(letter) < 32 for letter in text):
        raise ConfigError(setting, f"{text!r} is no path of a file.")
    try:
        full = (base or _project.get() or _project_of(Path.cwd())) / Path(text).expanduser()
        found = full.resolve()
        is_folder = found.is_dir() or text.endswith(("/", os.sep))
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(setting, f"'{text}' cannot be a path ({error}).") from None
    if is_folder:
        raise ConfigError(setting, f"'{text}' is a folder; name a file in it.")
    return found


def database_path(setting: str, path: str | Path) -> Path:
    """`resolved`, for a file that DuckDB opens: nothing that it takes for anything but a file."""
    text = str(path)
    scheme, colon, _ = text.partition(":")
    # A single letter is a drive.
    if colon and len(scheme) != 1 and not set(scheme) & {"/", os.sep}:
        raise ConfigError(
            setting, f"'{text}' is no file on this machine, and '{scheme}:' is not supported."
        )
    found = resolved(setting, path)
    if odd := [letter for letter in PATTERNS if letter in str(found)]:
        raise ConfigError(
            setting,
            f"'{found}' has {' and '.join(odd)} in it, which DuckDB takes for a pattern or for "
            "parameters. Take another name.",
        )
    return found


def database_address(setting: str, address: str) -> str:
    """A database: the path of a file, absolute, or a lake's address without a password."""
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
    """A file that is made of the database: absolute; of a lake, for all machines the same."""
    if of_lake and not Path(path).expanduser().is_absolute():
        raise ConfigError(
            setting,
            f"'{path}' would lie on whichever machine ran. Name an absolute path, in a folder that "
            "all of them have.",
        )
    return str(database_path(setting, path))


def refuse_local_data(setting: str, place: str) -> None:
    """Raise for a place of a lake's rows that each machine would take for another."""
    if "://" not in place and not Path(place).is_absolute():
        raise ConfigError(
            setting,
            f"is {place or 'empty'}, but a lake's rows need a place that every machine reaches: "
            "the absolute path of a folder, or s3://….",
        )


def _refuse_password(setting: str, text: str) -> None:
    if re.search(r"password\s*=", text):
        raise ConfigError(
            setting,
            "must not hold the password, which would be shown with the settings; Postgres takes it "
            "from PGPASSFILE or PGPASSWORD.",
        )


def is_same_file(one: str, other: str) -> bool:
    """Whether two resolved paths may be one file, on a file system that ignores case too."""
    return one.casefold() == other.casefold()


def refuse_misspelt_variables(read: Collection[str]) -> None:
    """Raise for an environment variable that nothing reads, next to one that would be."""
    mistakes = [
        (name, f"nothing reads it; did you mean {meant}?")
        for name, meant in unknown_variables(os.environ, read)
        if meant
    ]
    if mistakes:
        raise ConfigError.of(mistakes)


def explained(error: BaseException, known: Collection[str]) -> BaseException:
    """The mistake behind an error of Dagster's about a `defs.yaml`, in one line of ours.

    Args:
        error: What loading raised; given back when nothing is known of it.
        known: The attributes that there are.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DixaAssetsError):
            return cause
        if isinstance(cause, ValidationError):
            return _of_validation(cause, known)
        if isinstance(cause, ResolutionException):
            place, _, attribute = str(cause).partition("\n")[0].partition(" - attributes.")
            return ConfigError(
                attribute, f"{str(cause.__cause__ or cause.__context__).rstrip('.')} ({place})."
            )
        if isinstance(cause, MarkedYAMLError) and (mark := cause.problem_mark):
            return ConfigError(f"{mark.name}:{mark.line + 1}", f"{cause.problem}.")
        inner = cause.__cause__ or cause.__context__
        if isinstance(cause, DagsterError) and inner is None:
            return ConfigError("defs.yaml", str(cause))
        cause = inner
    return error


def _of_validation(error: ValidationError, known: Collection[str]) -> ConfigError:
    # Of the forms that a value may have, the one it comes nearest to; types stand in brackets.
    problem = max(error.errors(), key=lambda each: len(".".join(map(str, each["loc"]))))
    path, _, place = ".".join(map(str, problem["loc"])).strip("`").partition(" at ")
    name = re.sub(r"\.[\w,-]+\[.*\]", "", path.removeprefix("attributes.")).removesuffix(".str")
    where = f" ({place})" if place else ""
    if problem["type"] == "extra_forbidden":
        there = known if "." in path or not place else FILE_KEYS
        return ConfigError(name, f"there is no such attribute{where}{hint(name, there)}")
    if problem["type"] == "missing":
        return ConfigError(name, f"is missing{where}.")
    wanted = KINDS.get(problem["type"], problem["msg"])
    return ConfigError(name, f"{problem['input']!r} is not {wanted}{where}.")


def _project_of(folder: Path) -> Path:
    """The nearest project that holds a folder; outside of any, the folder itself."""
    for place in (folder, *folder.parents):
        if any((place / mark).is_file() for mark in MARKS):
            return place
    return folder
