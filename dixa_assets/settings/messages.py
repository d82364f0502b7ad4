"""One-line error messages for mistakes in the settings."""

import os
import re
import sys
from collections.abc import Collection
from io import TextIOWrapper
from pathlib import Path

from dagster import DagsterError
from dagster.components.resolved.errors import ResolutionException
from pydantic import ValidationError
from yaml import MarkedYAMLError

from dixa_assets.errors import ConfigError, DixaAssetsError
from dixa_assets.settings.misspelt import hint, unknown_variables, variables_read

# The expected value, by the first word of a validation error's type.
WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "a string",
    "dict": "a mapping",
    "list": "a list",
    "sequence": "a list",
    "is": "a list",
}
# The keys of a `defs.yaml`.
FILE_KEYS = ("type", "attributes", "template_vars_module", "requirements", "post_processing")


def accept_every_character() -> None:
    """Print escapes for characters that the encoding of the console lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def refuse_misspelt_variables(folder: Path) -> None:
    """Raise for an environment variable that resembles one that the folder's YAML files read."""
    mistakes = [
        (name, f"nothing reads it; did you mean {meant}?")
        for name, meant in unknown_variables(os.environ, variables_read(folder))
        if meant
    ]
    if mistakes:
        raise ConfigError.of(mistakes)


def to_config_error(error: BaseException, known: Collection[str]) -> BaseException:
    """Translate an error of Dagster about a `defs.yaml` into a one-line error.

    Args:
        error: The error of Dagster.
        known: The existing attributes.

    Returns:
        The translated error, or the same error if its cause is unknown.
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
        if isinstance(cause, (OSError, UnicodeError)):
            return ConfigError("defs.yaml", f"a file of the project cannot be read ({cause}).")
        inner = cause.__cause__ or cause.__context__
        if isinstance(cause, DagsterError) and inner is None:
            return ConfigError("defs.yaml", str(cause))
        cause = inner
    return error


def _of_validation(error: ValidationError, known: Collection[str]) -> ConfigError:
    # If a value may have several types, the longest location is the closest match. Types are in
    # brackets.
    problem = max(error.errors(), key=lambda each: len(".".join(map(str, each["loc"]))))
    path, _, place = ".".join(map(str, problem["loc"])).strip("`").partition(" at ")
    name = re.sub(r"\.[\w,-]+\[.*\]", "", path.removeprefix("attributes.")).removesuffix(".str")
    where = f" ({place})" if place else ""
    if problem["type"] == "extra_forbidden":
        valid = known if "." in path or not place else FILE_KEYS
        return ConfigError(name, f"there is no such attribute{where}{hint(name, valid)}")
    if problem["type"] == "missing":
        return ConfigError(name, f"is missing{where}.")
    wanted = WANTED.get(problem["type"].partition("_")[0], problem["msg"])
    wanted = wanted.removeprefix("Input should be ")
    return ConfigError(name, f"{problem['input']!r} is not {wanted}{where}.")
